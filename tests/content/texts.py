"""Short texts as files and servers have them, and the encodings in which each language's come."""

from __future__ import annotations

JA = [
    "売上を報告します。",
    "東京都渋谷区神南一丁目",
    "ご注文ありがとうございます。商品は明日発送されます。",
    "商品名と値段の一覧です。りんごは百円、みかんは五十円です。",
    "氏名,住所,電話番号\n山田太郎,大阪市北区,06-1234-5678\n",
    "エラー: ファイルが見つかりません",
    "カタログダウンロード",
    "本日の会議は午後三時から第二会議室で行います。資料は各自で印刷してください。",
    (
        "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何"
        "でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。"
    ),
    (
        "日本国民は、正当に選挙された国会における代表者を通じて行動し、われらとわれらの子孫のために、諸国民との協和による成果と、わが国全土にわたつて自由のも"
        "たらす恵沢を確保し、政府の行為によつて再び戦争の惨禍が起ることのないやうにすることを決意し、ここに主権が国民に存することを宣言し、この憲法を確定する。"
    ),
]
KO = [
    "안녕하세요. 반갑습니다.",
    "서울특별시 강남구 역삼동",
    "주문하신 상품이 내일 배송될 예정입니다. 감사합니다.",
    "이름,나이,주소\n김철수,34,부산시 해운대구\n",
    "오류: 파일을 찾을 수 없습니다",
    "매출 보고서",
    "대한민국은 민주공화국이다. 대한민국의 주권은 국민에게 있고, 모든 권력은 국민으로부터 나온다.",
    (
        "나라의 말이 중국과 달라 한자와는 서로 통하지 아니하므로, 어리석은 백성이 "
        "말하고자 하는 바가 있어도 마침내 제 뜻을 펴지 못하는 사람이 많다."
    ),
]
ZH_CN = [
    "今天天气很好，我们去公园。",
    "北京市海淀区中关村大街",
    "您的订单已发货，预计明天送达。谢谢您的支持！",
    "姓名,年龄,城市\n张伟,28,上海\n李娜,31,广州\n",
    "错误：文件不存在",
    "销售报告汇总",
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？",
    "请输入用户名和密码。",
    (
        "本公司成立于二〇〇三年，主要从事软件开发和系统集成业务，现有员工三百"
        "余人，其中技术人员占百分之八十以上，客户遍布全国各地，欢迎来电咨询。"
    ),
]
ZH_TW = [
    "今天天氣很好，我們去公園。",
    "臺北市大安區忠孝東路四段",
    "您的訂單已經出貨，預計明天送達。謝謝您的支持！",
    "姓名,年齡,城市\n陳大文,28,高雄\n林小玉,31,臺南\n",
    "錯誤：檔案不存在",
    "宜蘭礁溪五日遊，溫泉之旅",
    "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神互相對待。",
    "銷售報告總表",
    "請輸入使用者名稱與密碼。",
    (
        "本公司成立於民國九十二年，主要從事軟體開發與系統整合業務，現"
        "有員工三百餘人，其中技術人員佔百分之八十以上，歡迎來電洽詢。"
    ),
]
RU = [
    "Привет, как дела?",
    "Москва, улица Ленина, дом 5",
    "Ваш заказ отправлен и будет доставлен завтра. Спасибо!",
    "Имя;Возраст;Город\nИван;34;Казань\nМария;28;Омск\n",
    "Ошибка: файл не найден",
    "Отчёт о продажах",
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью.",
    "Україна є суверенна і незалежна, демократична, соціальна, правова держава.",
    "ЦЕНА: 150 РУБ.",
]
WEST = [
    "It’s “fresh” – café crème, 5 €",
    "Café, thé et croissants",
    "Grüße aus München, schönes Wochenende!",
    "Name;Straße;Ort\nMüller;Königsallee 5;Düsseldorf\n",
    "¿Dónde está la estación? Mañana por la mañana.",
    "Não há informações disponíveis sobre a sua encomenda.",
    "Le prix est de 12,50 € – à très bientôt !",
    (
        "Tous les êtres humains naissent libres et égaux en dignité "
        "et en droits. Ils sont doués de raison et de conscience."
    ),
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Smörgåsbord på Östermalm, tack så mycket",
    "“Quoted text” – it’s only punctuation…",
    "naïve résumé",
    "Señor Peña",
    "Temperature: 25°C ± 2",
    "Hyvää päivää, äiti! Tänään on kaunis päivä.",
    "© 2024 Société Générale. Tous droits réservés.",
]
CE = [
    "Zażółć gęślą jaźń, proszę państwa",
    "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Dziękujemy za złożenie zamówienia. Przesyłka dotrze jutro.",
    "Jméno;Město\nNovák;Plzeň\nDvořák;Český Krumlov\n",
    "Łódź, ulica Piotrkowska",
    "Köszönjük a megrendelést! A csomag holnap érkezik meg önhöz.",
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "Árvíztűrő tükörfúrógép",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Błąd: nie znaleziono pliku",
]

TEXTS = [
    (text, encoding)
    for texts, encodings in (
        (JA, ("shift_jis", "euc_jp")),
        (KO, ("euc_kr",)),
        (ZH_CN, ("gb18030",)),
        (ZH_TW, ("big5", "gb18030")),
        (RU, ("cp1251", "koi8_u")),
        (WEST, ("cp1252",)),
        (CE, ("iso8859_2", "cp1250")),
    )
    for text in texts
    for encoding in (*encodings, "utf_16_le", "utf_16_be", "utf_8")
]
