"""The ten digits of other languages, as they are written: for display, and for labels in names.

Speech doesn't depend on it: eSpeak NG says "7" in the word of its language. A language that is not
here is shown in figures, and said from numerals alone.
"""

from __future__ import annotations

import config

_DIGIT_WORDS = """
ar صفر واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة
az sıfır bir iki üç dörd beş altı yeddi səkkiz doqquz
bg нула едно две три четири пет шест седем осем девет
bn শূন্য এক দুই তিন চার পাঁচ ছয় সাত আট নয়
ca zero u dos tres quatre cinc sis set vuit nou
cs nula jeden dva tři čtyři pět šest sedm osm devět
da nul en to tre fire fem seks syv otte ni
de null eins zwei drei vier fünf sechs sieben acht neun
el μηδέν ένα δύο τρία τέσσερα πέντε έξι επτά οκτώ εννέα
en zero one two three four five six seven eight nine
eo nul unu du tri kvar kvin ses sep ok naŭ
es cero uno dos tres cuatro cinco seis siete ocho nueve
et null üks kaks kolm neli viis kuus seitse kaheksa üheksa
eu zero bat bi hiru lau bost sei zazpi zortzi bederatzi
fi nolla yksi kaksi kolme neljä viisi kuusi seitsemän kahdeksan yhdeksän
fr zéro un deux trois quatre cinq six sept huit neuf
gu શૂન્ય એક બે ત્રણ ચાર પાંચ છ સાત આઠ નવ
he אפס אחת שתיים שלוש ארבע חמש שש שבע שמונה תשע
hi शून्य एक दो तीन चार पाँच छह सात आठ नौ
hr nula jedan dva tri četiri pet šest sedam osam devet
hu nulla egy kettő három négy öt hat hét nyolc kilenc
id nol satu dua tiga empat lima enam tujuh delapan sembilan
it zero uno due tre quattro cinque sei sette otto nove
ja 零 一 二 三 四 五 六 七 八 九
ko 영 일 이 삼 사 오 육 칠 팔 구
lt nulis vienas du trys keturi penki šeši septyni aštuoni devyni
lv nulle viens divi trīs četri pieci seši septiņi astoņi deviņi
nb null en to tre fire fem seks sju åtte ni
nl nul een twee drie vier vijf zes zeven acht negen
pl zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć
pt zero um dois três quatro cinco seis sete oito nove
ro zero unu doi trei patru cinci șase șapte opt nouă
ru ноль один два три четыре пять шесть семь восемь девять
sk nula jeden dva tri štyri päť šesť sedem osem deväť
sl nič ena dva tri štiri pet šest sedem osem devet
sr нула један два три четири пет шест седам осам девет
sv noll ett två tre fyra fem sex sju åtta nio
sw sifuri moja mbili tatu nne tano sita saba nane tisa
th ศูนย์ หนึ่ง สอง สาม สี่ ห้า หก เจ็ด แปด เก้า
tr sıfır bir iki üç dört beş altı yedi sekiz dokuz
uk нуль один два три чотири п'ять шість сім вісім дев'ять
vi không một hai ba bốn năm sáu bảy tám chín
zh 零 一 二 三 四 五 六 七 八 九
"""
DIGIT_WORDS = {
    language: tuple(words)
    for language, *words in (line.split() for line in _DIGIT_WORDS.strip().splitlines())
}
"""Language -> the words of 0 to 9."""
ALIASES = {"cmn": "zh", "no": "nb", "zh-cn": "zh"}
"""Other codes of some languages."""


def code(language: str) -> str:
    """A language's code as it is used here: in lower case, with hyphens, one for each language."""
    name = language.strip().lower().replace("_", "-")
    return ALIASES.get(name, name)


def vocabulary(language: str = "en", labels: tuple[str, ...] = ()) -> config.Vocabulary:
    """The ten digits in a language, or other labels, which are their own words.

    Raises
    ------
    UserError : fewer than two labels, or one of them twice
    """
    language = code(language)
    if labels:
        return config.Vocabulary(labels, labels, language)
    words = DIGIT_WORDS.get(language) or DIGIT_WORDS.get(language.split("-")[0], config.DIGITS)
    return config.Vocabulary(config.DIGITS, words, language)
