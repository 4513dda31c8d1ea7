"""Every line of the old guide in today's form, as a user of the wheel runs it: ``make test-modal-wheel``."""
