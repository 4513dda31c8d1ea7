"""Phrases that accompany requests and ask for nothing. A module, because Modal ships Python files only."""

from __future__ import annotations

from typing import Final

PHRASES: Final = """\
Hello!
Hi there,
Hey
Good morning
Good afternoon, everyone.
Dear assistant,
Hey, it's me again.
Hi, hope you're doing fine
To whom it may concern,
Thanks!
Thank you very much in advance.
thx
Many thanks for your time.
Cheers
I really appreciate it.
please
if you don't mind
Whenever you have a moment.
No rush at all.
Sorry to bother you.
Sorry, I know this is a silly thing.
Apologies for the long message.
Excuse my bad English.
I hope you are well.
The weather is awful here today.
I'm having my first coffee right now.
Finally Friday!
My cat is sitting on the keyboard again.
It's raining and the kids are asleep.
I slept badly last night.
Kind regards
Best wishes,
Sincerely yours
Have a nice day!
Talk to you later.
Bye for now
--
xoxo
You are a helpful assistant.
You are a friendly and knowledgeable assistant who answers in plain language.
Answer briefly and honestly.
Respond in a professional tone.
Think carefully before you answer.
Below is an instruction that describes a task.
Write a response that appropriately completes the request.
User:
Assistant:
System:
Human:
### Instruction:
### Response:
### Input:
Question:
Answer:
Context:
Q:
A:
Subject: a small request
Message:
[INST]
---
> quoted from below
just a quick question
one more thing
This may sound odd.
well, anyway
so here goes
if that makes sense
as far as I know
ok
great
never mind
hmm, interesting
perfect
Oh, I see.
haha
alright then
that's fine
My colleague told me to ask you.
I have been using this for about a month.
I'm asking for a friend.
We talked about this last week.
I'm not very good with computers.
My boss is waiting for it.
I already tried everything I could think of.
This is my first time here.
Hallo zusammen,
Ich hoffe, es geht Ihnen gut.
Vielen Dank im Voraus!
Nur eine kurze Frage
Bonjour à tous,
Merci d'avance pour votre aide.
Désolé de vous déranger.
Bien cordialement
Hola, buenas tardes
Perdona la molestia.
Eres un asistente útil.
Olá, boa noite
Desculpe incomodar.
Muito obrigado pela atenção.
Buongiorno,
Grazie mille per la pazienza.
Cordiali saluti
Goedemiddag,
Alvast bedankt!
Met vriendelijke groet
Dzień dobry,
Z góry dziękuję za pomoc.
Pozdrawiam serdecznie
Merhabalar,
Şimdiden teşekkür ederim.
İyi günler dilerim.
Здравствуйте!
Заранее спасибо.
Извините за беспокойство.
Доброго дня!
Щиро дякую.
Сьогодні був довгий день.
السلام عليكم
شكرا مقدما على المساعدة
مع أطيب التحيات
היי, מה נשמע
תודה מראש
סליחה על ההפרעה
नमस्कार
आपकी मदद के लिए धन्यवाद।
Selamat pagi,
Terima kasih sebelumnya.
Maaf mengganggu.
Chào bạn,
Cảm ơn bạn trước nhé.
สวัสดีค่ะ
ขอบคุณล่วงหน้าครับ
您好，
麻烦您了，谢谢。
お世話になっております。
よろしくお願いいたします。
안녕하세요, 반갑습니다.
미리 감사드립니다.
"""
