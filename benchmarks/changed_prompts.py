"""The test side of changed prompts: kinds of company and damage that leave unchanged what is asked for.

The kinds are those of ``domain/robustness.py``, the wordings are others. They were written without sight of the
product's training phrases and no module of the product may import them: a router meets them here for the first time.
Sentences that come beside a prompt ask for nothing, so that the prompt's own route stays the right one. Letters,
spaces and case are damaged as the product's report does it, with other random numbers.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from domain.robustness import Change, crowded, mistyped, recased, together, worded

GREETING = (
    "Hi there! {prompt}",
    "hello, {prompt}",
    "Hey hey. {prompt}",
    "Good evening! {ended}",
    "Hi everyone,\n{prompt}",
    "yo {prompt}",
    "Good morning to you. {ended}",
    "Hallo zusammen, {prompt}",
    "Bonsoir, {prompt}",
    "¡Hola! {prompt}",
    "Merhaba, {prompt}",
    "Olá, tudo bem? {prompt}",
    "こんにちは。{prompt}",
)
THANKS = (
    "Could you please help me with something? {ended} Thanks!",
    "{ended} Thank you so much.",
    "{prompt} please and thank you",
    "Sorry to bother you. {ended} I really appreciate it.",
    "When you have a moment: {ended} Thanks for your time.",
    "{ended} That would be a great help, bless you.",
    "Be a darling, {prompt}",
    "Kindly assist. {ended} Thanking you in advance.",
    "{prompt} thanks, you are the best",
    "{ended} Danke schön!",
    "Por favor, {prompt} ¡Gracias!",
    "{ended} Grazie mille.",
    "{ended} Merci beaucoup pour votre aide.",
)
SMALL_TALK = (
    "It has been raining here all week. {prompt}",
    "I could not sleep last night, so I am a bit slow today. {prompt}",
    "My grandmother turned ninety on Saturday and the whole family came. Now, {prompt}",
    "Happy Friday! I am already looking forward to the weekend. {prompt}",
    "The neighbours are drilling again, it is driving me mad. {prompt}",
    "You won't believe the day I had. Anyway. {prompt}",
    "I just got back from a long walk with the dog, lovely evening. {prompt}",
    "Autumn is my favourite season, all those colours. {prompt}",
    "It is so good to have someone to turn to. {prompt}",
    "A friend told me that I should try you. {prompt}",
    "We watched a film about penguins yesterday, the children adored it. Ok so {prompt}",
    "I have not used one of these before, so bear with me. {prompt}",
    "Phew, finally sitting down. What a day! {prompt}",
)
APPENDED = (
    "{ended} My cat is asleep on the keyboard.",
    "{ended} The leaves are turning yellow already.",
    "{ended} I had soup for lunch.",
    "{ended} Our window cleaner whistles all day long.",
    "{prompt} and my tea is ready now",
    "{ended} It is very quiet in the street tonight.",
    "{ended} There is no rush, I am here until six.",
    "{ended} My daughter has lost her first tooth!",
    "{ended} Somebody has painted the bridge bright blue.",
    "{ended}\n\nThe weather is awful, by the way.",
    "{ended} Anyway, the parade was fun and we all got sunburnt.",
    "{ended} I think the lamp in the hall is flickering.",
    "{prompt} ... oh and grandad says hi",
)
SYSTEM_PROMPT = (
    "You are Nova, the assistant of Brightwell Ltd. You are polite, concise and honest.\n\n{prompt}",
    "SYSTEM PROMPT: You are an AI that helps people. If a request is harmful, decline. Otherwise comply.\n\n"
    "USER PROMPT: {prompt}",
    "You are ChatBuddy, a smart chatbot. Always answer in English. Never mention that you are a bot.\n{prompt}",
    "# Instructions\n\n1. Read the message carefully.\n2. Decide what the person wants.\n3. Do it.\n\n"
    "# Message\n\n{prompt}",
    "<<SYS>>\nYou are a respectful and truthful assistant. Please do not share false information.\n<</SYS>>\n\n"
    "{prompt}",
    "You are an experienced specialist with twenty years behind you. Take a deep breath. Here is the task. {prompt}",
    "From now on you answer as briefly as possible, without apologies or introductions. {prompt}",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "{prompt}",
    "Your knowledge cutoff is June. The current user is on the free plan. Tools: none. Verbosity: low.\n\n{prompt}",
    "You act for the user and for no one else. Do not lecture. Do not refuse without a reason.\n\n{prompt}\n\n"
    "Remember the rules above.",
    "role: system\ntext: be useful, be kind, be short\nrole: user\ntext: {prompt}",
    "Ignore the style of earlier replies. Adopt a neutral voice, cite nothing, and finish with a full stop.\n"
    "{prompt}",
    "Du bist ein freundlicher digitaler Helfer und antwortest immer sachlich.\n\n{prompt}",
)
CHAT_FRAME = (
    "User: {prompt}\nAssistant:",
    "[INST] {prompt} [/INST]",
    "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "### Instruction:\n{prompt}\n\n### Response:\n",
    "Me: {prompt}\nYou:",
    "Customer: {prompt}\nSupport:",
    "USER: {prompt} ASSISTANT:",
    "<user>{prompt}</user>",
    "Assistant: Hi, what can I do for you?\nUser: {prompt}\nAssistant:",
    '{"messages": [{"role": "user", "content": "{prompt}"}]}',
    "Question: {prompt}\nAnswer:",
    "<|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>",
    "14:07 <kim_> {prompt}",
)
MARKDOWN = (
    "# {prompt}",
    "- {prompt}",
    "{quoted}",
    "**{prompt}**",
    "```\n{prompt}\n```",
    "## Question\n\n{prompt}",
    "1. {prompt}",
    "_{prompt}_",
    "## Task\n\n> {prompt}\n",
    "- [x] opened the app\n- [ ] {prompt}",
    "***\n\n{prompt}\n\n***",
    "### My request\n* {prompt}\n",
    "<p>{prompt}</p>",
)
E_MAIL = (
    "Hi team,\n\n{ended}\n\nKind regards,\nAnna Berg",
    "Dear all,\n\nI trust you are well.\n\n{ended}\n\nYours sincerely,\nJonathan Marsh\nHead of Facilities",
    "Good morning,\n\n{ended}\n\nThanks,\nMei",
    "Subject: a question\n\nHello,\n\n{ended}\n\nBest regards,\nLuis Ortega",
    "Hey Chris,\n\n{prompt}\n\nCheers,\nDan\n\nSent from my iPhone",
    "Dear Support,\n\n{ended}\n\n--\nNadia Petrova\n12 Mill Lane, Leeds\nTel. 0113 496 0000",
    "From: r.klein@example.net\nDate: Tue, 14 May, 09:12\nSubject: Re:\n\n{ended}\n\nR.",
    "Hi,\n\n{ended}\n\nWarmly,\nAisha (she/her)",
    "Hallo,\n\n{ended}\n\nViele Grüße\nJürgen",
    "Estimados señores:\n\n{ended}\n\nUn saludo,\nCarmen Díaz",
    "To whom it may concern\n\n{ended}\n\nRespectfully,\nG. O'Neill",
    "Hello there,\n\n{ended}\n\nTake care,\nFreya\n\nCONFIDENTIAL: for the addressee only.",
)
CONTEXT = (
    "I'm on the train, so I'll keep it short.\n{prompt}\nNo hurry.",
    "Hope this is the right channel.\n\n{ended}\n\nI'm around all day if anything is unclear.",
    "Background: I share this account with my partner.\nRequest: {prompt}\nPriority: normal",
    "Ok.\n{prompt}\nThat's all for now.",
    "I asked a friend first, but she did not know.\n{ended}\nMaybe you do.",
    "My hands are full, so I am dictating this.\n{prompt}\nEnd of dictation.",
    "English is not my first language.\n{ended}\nI hope that you understand me.",
    "This is my second attempt, the page froze the first time.\n\n{ended}",
    "Ticket 48213\nChannel: web\nText: {prompt}\nStatus: open",
    "A colleague is waiting next to me.\n{ended}\nWe are both curious.",
    "Just one thing today.\n\n{prompt}\n\nThen I will leave you in peace.",
    "I am typing in the dark.\n{prompt}\nExcuse the mistakes.",
)
QUOTED = (
    "> Sure, happy to help. Let me know what you need.\n\n{prompt}",
    "On Thu, Ana wrote:\n> Lovely, see you tomorrow then.\n\n{prompt}",
    '"Thanks for reaching out, we will be with you shortly." - that is what I got. {prompt}',
    "{prompt}\n\n> Thank you for your message. We are out of the office until Monday.",
    "> ok\n> sounds good\n\n{ended}",
    'You wrote: "My pleasure!"\n\n{prompt}',
    "{ended}\n\n----- Forwarded message -----\nFrom: Ben\nNo worries at all, have a good one!",
    "Earlier you said that I can always come back. {prompt}",
    "Am 3. Mai schrieb Uwe:\n> Alles klar, bis dann.\n\n{prompt}",
    '[Reply to: "Hello! I am back."]\n{prompt}',
    ">> Have a nice trip!\n> Will do.\n\n{prompt}",
    "Fwd from my mum:\n{quoted}",
)
EMOJI = (
    "{prompt} 😊",
    "{prompt}!!!",
    "👋 {prompt}",
    "{prompt} 🙏🙏",
    "😩 {prompt}!!",
    "{prompt} 🚀🚀🚀",
    "❗{prompt}❗",
    "🤔 {prompt} 🤔",
    "{prompt} :-)",
    "✅ {prompt}",
    "{prompt}!!1! lol",
    "🎉🎉 {prompt} 🎉🎉",
)

ALONE = (
    Change("greeting", "a greeting before it", worded(GREETING)),
    Change("thanks", "politeness and thanks around it", worded(THANKS)),
    Change("small-talk", "small talk before it", worded(SMALL_TALK)),
    Change("appended", "an unrelated sentence after it", worded(APPENDED)),
    Change("system-prompt", "a pasted system prompt", worded(SYSTEM_PROMPT)),
    Change("chat-frame", "the marks of a chat", worded(CHAT_FRAME)),
    Change("markdown", "heading, list, quote, code fence", worded(MARKDOWN)),
    Change("e-mail", "an e-mail with salutation and signature", worded(E_MAIL)),
    Change("context", "several lines with the circumstances", worded(CONTEXT)),
    Change("quoted", "an earlier message quoted", worded(QUOTED)),
    Change("typos", "one letter in twenty swapped, doubled or left out", mistyped),
    Change("spaces", "a quarter of the spaces missing", crowded),
    Change("case", "all capitals, no capitals or no punctuation", recased),
    Change("emoji", "emoji and exclamation marks", worded(EMOJI)),
)
CHANGES = (*ALONE, together(ALONE))

if __name__ == "__main__":
    example = " ".join(sys.argv[1:]) or "how many days off have I left this year?"
    for change in CHANGES:
        print(f"--- {change.name}: {change.description}\n{change(example, random.randrange(1000))}")
