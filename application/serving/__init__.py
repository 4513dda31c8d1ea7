"""Answering requests one by one as they come, behind an endpoint: policy, without any protocol."""
