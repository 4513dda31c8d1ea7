"""Prompts of many kinds that people send to assistants. A module, because Modal ships Python files only."""
# ruff: noqa: E501 - one line is one text

from __future__ import annotations

from typing import Final

PROMPTS: Final = """\
hello
hey whats up
thanks
Thank you so much, that helped a lot
ok
okay got it
never mind
nvm i figured it out
good night
Good morning! How are you today?
how are you
who are you
who made you?
are you a real person
what can you do
lol
yes
no
maybe
why
What?
really??
test
asdf
testing testing 123
sdkfjhsdkjf
qwertyuiop
42
3.14159
1 2 3 4 5
?
...
https://example.com/article/how-bees-sleep
https://en.wikipedia.org/wiki/Lighthouse
bananas
penguins
Thursday
photosynthesis
Napoleon
make it shorter
continue
go on
Rewrite that in a friendlier tone
do it again but better
more formal please
Explain it like I'm five
can you give me another example
no, the other one
that's not what I asked for
this is wrong, try again
you keep giving me the same answer, its annoying
wow you are useless today
Honestly the last version of you was better.
You just made that up, didn't you?
stop apologizing and just answer
why are you so slow
Do you remember what I told you yesterday?
How many languages do you speak?
When does your knowledge end?
do you have feelings or is it all pretend
Can you browse the internet or not
what's your favourite colour
Are my chats private?
What is the capital of Mongolia?
who invented the zipper
How tall is the Eiffel Tower in feet?
why is the sky blue but sunsets are red
How do magnets actually work?
what's the difference between a crocodile and an alligator
how many bones does an adult human have
Why do we yawn when other people yawn?
Explain black holes without using any maths.
What causes the northern lights?
difference between fission and fusion
How old is the universe, and how do we know?
what happens if you fall into quicksand
Name the countries that border Laos
longest river in South America
Why does Chile have such a weird shape?
Which is further north, Rome or New York?
is Greenland part of Europe
What was the Hanseatic League and why did it decline?
causes of world war 1 in bullet points
How did people tell time at night in the Middle Ages?
Why did the Roman Empire split in two
Summarise the French Revolution in five sentences.
what did vikings really eat
What is 17% of 340
solve 3x + 7 = 25
Integrate x^2 * e^x dx and show the steps
is 221 a prime number
If a train leaves at 9:40 and arrives at 13:05, how long is the trip?
Prove that the square root of 2 is irrational.
whats the probability of rolling two sixes in three throws
convert 68 fahrenheit to celsius
Explain eigenvectors to someone who only knows high school algebra.
My son has to divide fractions for homework and I can't explain why you flip the second one. Help?
write a python function that reverses a linked list
How do I center a div?
regex to match a date like 2024-05-31
why does my javascript print [object Object]
Convert this for loop into a list comprehension: for i in range(10): if i % 2: out.append(i*i)
git undo last commit but keep changes
What does Big O of n log n mean in practice?
TypeError: 'NoneType' object is not subscriptable
2024-03-11 04:12:55 ERROR [worker-3] Connection reset by peer, retrying in 30s
npm ERR! code ERESOLVE unable to resolve dependency tree
Segmentation fault (core dumped)
Should I learn Rust or Go first? I know a bit of java
Please review my bash script, it deletes temp files older than 7 days but sometimes also removes the folder itself: find /tmp/cache -mtime +7 | xargs rm -rf
Please explain recursion with an example that is not factorial
easy recipe for pancakes without eggs
How long do I boil a soft egg?
what can I cook with chickpeas, spinach and half a lemon
my rice always turns out sticky, what am i doing wrong
substitute for buttermilk
How do I stop my sourdough from being so flat? It rises fine in the bowl but spreads out like a pancake once it's in the oven. I use about 75 percent hydration and proof overnight in the fridge.
vegetarian dinner ideas for six people
What wine goes with mushroom risotto?
is it safe to eat chicken thats been in the fridge 5 days
3 days in Lisbon, what should I not miss
Is Iceland worth visiting in November?
What should I pack for a week of hiking in Scotland
I get seasick easily. Any tips before a ferry crossing?
do i need a visa for vietnam as a tourist
Which is nicer for a honeymoon, the Azores or Madeira? We like walking and don't care much for beaches. Budget is medium, and we'd go in late September.
how do you survive a 14 hour flight in economy
I've had a headache for three days, should I worry?
how much water should i drink per day
Is it normal that my eyelid keeps twitching?
Can you take ibuprofen and paracetamol together?
i cant sleep, my mind keeps racing at night
Stretching exercises for lower back pain from sitting all day
My knee clicks whenever I go down the stairs. It doesn't hurt, it's just loud. Should I see a doctor or is that just what knees do after forty?
is coffee bad for you
My best friend hasn't answered me for two weeks. What should I do?
how do i tell my boyfriend i need more space without hurting him
My sister and I had a huge fight about our mother's birthday. I said some things I regret and now she won't pick up the phone. How can I apologise without making it all about me?
how to make friends as an adult in a new city
My coworker takes credit for my ideas in meetings, how should I handle it?
first date ideas that arent dinner
I feel lonely lately
I don't know what to do with my life
write a poem about the sea in winter
Draft an email to my landlord asking him to repair the heating
can you write a cover letter for a barista job, I have no experience
Give me five titles for an essay on social media and attention
Write a short story about a lighthouse keeper who has never seen a ship
proofread this: Their going to the libary tomorow becuase its closed today
Write a wedding toast for my brother, funny but not embarrassing, about two minutes long.
I need an intro paragraph for an essay about renewable energy. It should start with a surprising fact and end with a clear thesis. Keep it under 120 words and please avoid clichés.
rephrase: I am sorry for the late reply
synonyms for beautiful
Write a resignation letter that doesn't burn bridges
limerick about a lazy goat
Make this sound less aggressive: You never sent me the file.
Can you come up with a name for a fantasy kingdom ruled by owls
Should I use "affect" or "effect" here: the weather ___ my mood
translate "where is the train station" into Italian
What does "Fernweh" mean in English?
Translate to French: We look forward to meeting you next spring.
whats the latin motto on the us dollar bill mean
Translate this into simple Spanish for my neighbour: the water will be turned off on Tuesday morning between eight and ten.
Summarise this text: The town council met on Tuesday to discuss the old bridge. Engineers reported cracks in two pillars. Repairs would cost three million, a new bridge eleven. A decision was postponed until autumn.
tl;dr please: Researchers followed 4,000 adults for ten years and found that those who walked daily slept better, though the effect was small and vanished in people who already exercised in other ways.
What is the main point of this paragraph? "Cities grew around rivers because rivers moved goods cheaply. When railways came, the rivers mattered less, but the cities stayed."
Turn these notes into three bullet points: meeting moved to friday, budget not approved yet, need new supplier for paper cups
tell me a joke
Why did the chicken cross the road? Give me a new answer
another one
tell me a riddle
Give me your best dad joke, I need to cheer up my daughter
pretend you are a pirate and describe your breakfast
You are a medieval innkeeper and I am a tired traveller. Start the scene.
Be my job interviewer for a junior accountant position and ask one question at a time.
act as a grumpy wizard who has lost his hat
Let's play twenty questions, you start
Do we have free will?
what did Kant mean by the categorical imperative
Is it ever right to lie?
what is the meaning of life
If you replace every plank of a ship, is it still the same ship?
Stoicism vs epicureanism short comparison
what's going on in the world today
who won the election
Any news about the strike at the airports?
Why is everyone talking about the heat wave?
who won the match last night
explain the offside rule
How many sets are there in a men's Grand Slam final?
beginner running plan for 10k in 12 weeks
Is bouldering hard to start with at 50?
Who composed The Planets?
recommend me some sad jazz for a rainy evening
What's the difference between a symphony and a concerto?
which album should i start with if i want to get into the beatles
songs similar to bohemian rhapsody
movies like Inception
Is Blade Runner worth watching today? I tend to fall asleep in slow films
Who directed Seven Samurai?
good series to watch with my parents
film where a guy relives the same day, not groundhog day
How do you castle in chess?
whats a good opening against e4
tips for beating the first boss in Dark Souls
Board games for two people that don't take all night
how do you play gin rummy
How long does it take to learn Japanese?
when do I use ser and when estar
German cases make no sense to me, please explain the dative
Give me ten everyday French phrases with pronunciation
is it "less people" or "fewer people"
Correct my sentence please and explain the mistake: I am living here since five years.
how do i fix a dripping tap
What size drill bit for a 6mm wall plug
Can I paint over wallpaper?
squeaky floorboards, any fix without ripping them up?
My bathroom has no window and there is mould coming back in one corner every winter. I've cleaned it with bleach twice and repainted once. What should I try next before calling someone?
when should i plant garlic
Why are my tomato leaves turning yellow?
how often do you water a cactus
plants that survive in a dark hallway
How do I get rid of slugs without poison?
my dog eats grass, is that bad
How do I introduce a kitten to an older cat?
Are lilies poisonous to cats?
What should I wear to a wedding in a barn?
can you wear brown shoes with a black suit
how do I get red wine out of a white shirt
What's the difference between an ETF and a mutual fund?
how does compound interest work
Should I pay off my student loan early or save?
how much of my income should go to rent
Can my landlord raise the rent in the middle of the contract?
Do I have to declare a gift from my grandparents in my taxes?
what's the difference between a will and a trust
What happens if I just ignore a parking ticket from abroad?
best budget laptop for university
gift ideas for a dad who has everything
should i buy a used electric bike or new one
What do I look for when buying winter tyres
my wifi keeps dropping every evening
How do I take a screenshot on a Mac?
printer says offline but its on
phone battery dies at 30 percent, what's wrong
How do I move photos from my old phone to a new computer? I don't have much cloud storage and there are around nine thousand pictures. Ideally I'd like to keep the dates.
laptop fan is super loud all of a sudden
How can I tell whether an email is phishing?
Would you be so kind as to explain what a hedge fund does? Thank you in advance!
Hello! Sorry to bother you, but could you tell me why leaves change colour in autumn? Thanks :)
Hi, hope you're having a nice day. I was wondering how honey is made, if that's not too much trouble.
Good evening, please list the seven wonders of the ancient world. Many thanks.
because of the
the thing with the round handle
and then what
as I was saying
something for the weekend
list
help
I'm bored
What day is it?
flip a coin
pick a number between 1 and 10
give me a random fact
what should I have for lunch
how do I become a morning person
teach me something interesting about octopuses
Quiz me on European capitals, five questions, medium difficulty.
How do I prepare for a job interview if I'm really nervous? It's my first one in eleven years and I keep imagining the worst. I don't want to sound rehearsed, but I also freeze when I have to improvise.
Why did dinosaurs go extinct while crocodiles survived?
pros and cons of working from home
I've been offered a job in another city with a bit more money, but my partner would have to give up theirs and we just started to feel at home here. My parents are also getting older and live around the corner. On the other hand I've been bored at work for two years now. How would you go about a decision like this, and what questions should we be asking each other before Sunday?
Please write a short scene of about 200 words. Two strangers share a taxi to the airport on New Year's Eve and slowly realise they went to the same primary school. No big drama, no romance, just warm and a little awkward. Use the present tense, keep the dialogue snappy, and end on a line that makes the reader smile. Thank you very much!
hi so my teacher wants us to compare the greek and the norse gods in an essay, around 800 words, and i honestly dont know where to start. i've read a bit about zeus and odin but thats it. can you give me an outline with like five paragraphs and tell me what should go in each one? it's due tomorrow and im kinda panicking
Hallo, wie geht's?
Was ist der Unterschied zwischen Wetter und Klima?
schreib mir ein kurzes Gedicht über den Herbst
Wie bekomme ich Kalk aus dem Wasserkocher?
Meine Nachbarn sind jeden Abend bis Mitternacht laut. Ich habe schon zweimal freundlich geklingelt, aber es hat nichts gebracht. Was kann ich noch tun, ohne gleich einen Streit anzufangen?
warum ist die banane krumm
Kannst du den Satz bitte etwas höflicher formulieren?
Wer hat den Buchdruck erfunden
danke, das wars
Bonjour, qui es-tu ?
Pourquoi les flamants sont-ils roses ?
donne moi une recette de quiche sans pâte
Écris un mail à mon prof pour m'excuser de mon absence de lundi.
c'est quoi la différence entre « an » et « année »
Raconte-moi une blague
Quels sont les symptômes d'une carence en fer ?
merci beaucoup, bonne soirée
Corrige les fautes : je suis aller au marcher hier matin avec mes amie
hola
¿Cuántos continentes hay en el mundo?
Escríbeme un cuento corto sobre un gato que vive en una biblioteca
como se quita una mancha de aceite de la ropa
¿Por qué se celebra el Día de Muertos?
Me cuesta mucho concentrarme cuando estudio en casa. ¿Qué puedo hacer?
¿Cuál es la derivada de ln(x)?
hazlo más corto porfa
quien gano el partido de ayer
Bom dia, tudo bem?
Qual é a diferença entre "por que" e "porque"?
me dá uma receita de bolo de cenoura fofinho
Quem foi Fernando Pessoa?
meu cachorro não quer comer ração, o que eu faço
Como funciona o imposto de renda para quem trabalha por conta própria?
Escreve um poema sobre a saudade.
obrigado!
Ciao, come stai?
Come si prepara il vero pesto alla genovese?
Chi ha dipinto la Cappella Sistina?
spiegami la fotosintesi in parole semplici
Scrivimi una lettera di presentazione per un lavoro da cameriere
perché il mare è salato
Non funziona, riprova
Che differenza c'è tra passato prossimo e imperfetto?
hoi, wie ben jij?
Waarom ligt Nederland zo laag?
Hoe maak ik stroopwafels zonder wafelijzer?
kun je dit iets korter maken
Wat zijn leuke uitjes met kinderen als het regent?
Mijn laptop start niet meer op na een update, wat nu?
Wat betekent "de kat uit de boom kijken"?
Cześć, co potrafisz?
Dlaczego liście zmieniają kolor jesienią?
napisz życzenia urodzinowe dla cioci
Jak ugotować barszcz czerwony na święta?
ile to jest 15% z 260
Kto napisał „Lalkę” i o czym jest ta powieść?
nieważne, już wiem
Merhaba, nasılsın?
Türkiye'nin en yüksek dağı hangisi?
mercimek çorbası nasıl yapılır
Bana kısa bir fıkra anlatır mısın?
İş görüşmesinde hangi sorular sorulur?
Uykusuzluğa ne iyi gelir?
teşekkürler
Привет, как дела?
Почему Байкал такой глубокий?
напиши стихотворение про осень
Как отстирать пятно от кофе с белой рубашки?
объясни теорему Пифагора простыми словами
Что посмотреть вечером, если хочется чего-то доброго и смешного?
не понял, объясни ещё раз
Чем отличается кредитная карта от дебетовой?
Привіт! Хто ти?
Як приготувати вареники з вишнями?
Чому в лютому лише 28 днів?
порадь книжку на вихідні
Яка найдовша річка України?
Допоможи написати привітання для вчительки, коротко і тепло.
дякую, на добраніч
مرحبا، كيف حالك؟
ما هي عاصمة أستراليا؟
اكتب لي قصيدة قصيرة عن الوطن
كيف أتخلص من الأرق؟
ما الفرق بين الفيروس والبكتيريا؟
طريقة عمل الكبسة بالدجاج
شكرا جزيلا
أعطني نصائح لتعلم اللغة الإنجليزية بسرعة
שלום, מה שלומך?
למה הים כחול?
איך מכינים שקשוקה?
תכתוב לי ברכה ליום הולדת של סבתא
כמה זה 12 כפול 17
מה ההבדל בין מניה לאג"ח?
תודה רבה
नमस्ते, आप कैसे हैं?
भारत का राष्ट्रीय पक्षी कौन सा है?
मुझे एक छोटी सी कहानी सुनाओ
सिर दर्द के लिए घरेलू उपाय बताइए
पनीर बटर मसाला कैसे बनाते हैं
चाँद पर गुरुत्वाकर्षण कितना है?
ठीक है, धन्यवाद
Halo, apa kabar?
Kenapa langit berwarna biru?
resep nasi goreng sederhana dong
Buatkan pantun tentang persahabatan
Apa perbedaan antara iklim dan cuaca?
Bagaimana cara mengatur keuangan untuk mahasiswa yang tinggal di kos?
makasih ya
Xin chào, bạn là ai?
Cách nấu phở bò tại nhà
Vì sao lá cây có màu xanh?
Viết giúp mình một email xin nghỉ phép hai ngày
làm sao để hết mất ngủ
Sông nào dài nhất thế giới?
Kể cho tôi nghe một câu chuyện cười đi
สวัสดีครับ คุณเป็นใคร
ทำไมท้องฟ้าถึงเป็นสีฟ้า
วิธีทำต้มยำกุ้งแบบง่ายๆ
ช่วยแต่งกลอนวันแม่ให้หน่อย
ปวดหลังจากนั่งทำงานนานๆ ควรทำอย่างไรดี
ประเทศไทยมีกี่จังหวัด
ขอบคุณค่ะ
你好
为什么月亮有时候白天也能看见？
帮我写一封请假邮件，语气礼貌一点
西红柿炒鸡蛋怎么做才好吃
解释一下什么是通货膨胀
李白和杜甫谁年纪更大
讲个笑话
再短一点
こんにちは、元気ですか？
日本で一番高い山は何ですか
肉じゃがの作り方を教えてください
「は」と「が」の違いがよくわからないです
上司へのお礼メールを書いてほしい
最近よく眠れないんだけど、どうしたらいい？
もっと簡単に説明して
안녕하세요
하늘은 왜 파란가요?
김치찌개 맛있게 끓이는 법 알려줘
친구 생일 축하 메시지 좀 써 줘
요즘 너무 피곤한데 어떻게 하면 좋을까
세종대왕의 업적을 간단히 정리해 주세요
그만, 됐어
"""
