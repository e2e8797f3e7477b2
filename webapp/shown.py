"""Answers, bars and tables as HTML: shown at once, readable aloud, light and dark."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Mapping, Sequence

import config
from recognition.digit_strings import StringResult
from recognition.recognizer import RecognitionResult

STYLE = """
.digit { font-size: 6.5rem; line-height: 1; font-weight: 700; margin: 0; }
.digit.none { font-size: 3rem; padding: 1.75rem 0; }
.said { font-size: 1.1rem; margin: .2rem 0 .6rem; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem; margin: 0; }
.facts dt { opacity: .75; } .facts dd { margin: 0; }
.advice { margin: .6rem 0 0; padding: .5rem .8rem; border-left: 4px solid #e69f00;
  background: #e69f0022; }
.refused { padding: .7rem 1rem; border-left: 4px solid #d55e00; background: #d55e0022; }
.bars { width: 100%; border: none !important; border-collapse: collapse; margin: 0;
  table-layout: fixed; font-size: .9rem; }
.bars caption, .confusion caption { text-align: left; font-weight: 600; padding: .3rem 0; }
.bars th, .bars td { border: none !important; padding: 1px 4px !important; text-align: left;
  font-weight: 500; }
.bars th[scope=row] { width: 7.6rem; white-space: nowrap; }
.bars tr, .bars thead, .bars tbody { border: none !important; background: none !important; }
.meter .bar b { min-width: 9.5rem; }
.posteriors th[scope=row], .posteriors th:first-child { width: 5.2rem; }
.bar { display: flex; align-items: center; gap: .4rem; }
.bar span { flex: 1; height: 1.05rem; background: #8883; border-radius: 2px; overflow: hidden; }
.bar i { display: block; height: 100%; }
.bar b { flex: none; min-width: 2.6rem; text-align: right; font-weight: 500; font-size: .85rem; }
.best th, .best b { font-weight: 800; }
.confusion { border-collapse: collapse; font-size: .9rem; }
.confusion th, .confusion td { padding: .25rem .5rem; text-align: center; border: 1px solid #8884; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1.2rem; }
.string { font-size: 2.4rem; letter-spacing: .25rem; overflow-wrap: anywhere; min-height: 3.2rem; }
.string.empty { font-size: 1.1rem; letter-spacing: normal; opacity: .75; }
.scroll { overflow-x: auto; }
.figure { width: 100%; border-radius: 4px; }
"""
COLOURS = {"cnn": "#0072b2", "rnn": "#d55e00", "vote": "#009e73"}
OTHERS = ("#cc79a7", "#56b4e9", "#e69f00")


def escaped(value: object) -> str:
    """Text as HTML, whatever is in it."""
    return html.escape(str(value))


def answer(result: RecognitionResult) -> str:
    """The large digit, how sure it is, what was measured, and advice."""
    prediction, vocabulary = result.prediction, result.vocabulary
    labels, words = vocabulary.labels, vocabulary.words
    kind = "digits" if vocabulary.is_digits else "words"
    if result.digit is None:
        big, best = f'<p class="digit none">{vocabulary.none}</p>', prediction.best_guess
        guess = f"{labels[best]}, {words[best]}" if vocabulary.is_digits else labels[best]
        said = (
            f"best guess {guess}: {result.confidence:.0%}"
            if result.speech.size
            else "no speech was found"
        )
    else:
        size = "" if vocabulary.is_digits else " none"
        big = f'<p class="digit{size}">{escaped(labels[result.digit])}</p>'
        said = f"{words[result.digit]}, {result.confidence:.0%} sure"
    if result.n_digits > 1:
        told = " ".join(labels[digit] for digit in result.digits)
        said += f"; {result.n_digits} {kind} in all: {told}"
    models = ", ".join(
        f"{config.display_name(name)} {labels[item.digit]} ({item.confidence:.0%})"
        for name, item in prediction.predictions.items()
    )
    facts = {"Networks": models, **measured(result)}
    return (
        f'<div class="answer" role="status">{big}<p class="said">{escaped(said)}</p>'
        f"{definitions(facts)}{advice(result.remarks)}</div>"
    )


def answer_or_string(result: RecognitionResult | StringResult) -> str:
    """The answer to one utterance, or to a string with how sure each digit is."""
    if isinstance(result, RecognitionResult):
        return answer(result)
    big = f'<p class="digit">{escaped(result.digits)}</p>'
    each = ", ".join(f"{one.digit} {one.confidence:.0%}" for one in result.spoken)
    said = f'<p class="said">{result.confidence:.0%} sure: {escaped(each)}</p>'
    return f'<div class="answer" role="status">{big}{said}{advice(result.remarks)}</div>'


def measured(result: RecognitionResult) -> dict[str, str]:
    """What is known of the recording, in words."""
    facts = {"Time": f"{result.timing_ms['computing']:.0f} ms"}
    facts["Length"] = f"{result.recording.seconds:.2f} s"
    found = result.measured()
    if found["speech_start_s"] is not None:
        facts["Speech"] = f"{found['speech_start_s']:.2f} to {found['speech_end_s']:.2f} s"
    if found["level_dbfs"] is not None:
        facts["Level"] = f"{found['level_dbfs']:.0f} dBFS"
        facts["SNR"] = f"about {found['snr_db']:.0f} dB"
    return facts


def definitions(facts: Mapping[str, str]) -> str:
    """Names and values."""
    items = (f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    return f'<dl class="facts">{"".join(items)}</dl>'


def advice(remarks: Sequence[str]) -> str:
    """What is odd about the recording."""
    return "".join(f'<p class="advice">{escaped(remark)}</p>' for remark in remarks)


def picture(png: bytes | None) -> str:
    """The comparison figure, within the page."""
    if png is None:
        return ""
    text = "Waveform and spectrogram: recorded, after the high-pass, cleaned with the speech marked"
    encoded = base64.b64encode(png).decode()
    return f'<img class="figure" alt="{text}" src="data:image/png;base64,{encoded}">'


def refusal(message: object) -> str:
    """Why there is no answer."""
    return f'<p class="refused" role="alert">{escaped(message)}</p>'


def posteriors(result: RecognitionResult) -> str:
    """Each network's posteriors and the vote's, as a table of bars."""
    prediction = result.prediction
    columns = {name: item.posteriors for name, item in prediction.predictions.items()}
    columns["vote"] = prediction.posteriors
    heads = "".join(
        f'<th scope="col">{escaped(config.display_name(name))}</th>' for name in columns
    )
    rows = []
    for digit in range(result.vocabulary.reject):
        title = escaped(result.vocabulary.title(digit))
        chosen = ' class="best"' if digit == prediction.digit else ""
        cells = "".join(
            f"<td>{bar(float(values[digit]), colour(name, place))}</td>"
            for place, (name, values) in enumerate(columns.items())
        )
        rows.append(f'<tr{chosen}><th scope="row">{title}</th>{cells}</tr>')
    rest = prediction.reject_probability
    empty = "<td></td>" * (len(columns) - 1)
    none = f"{empty}<td>{bar(rest, COLOURS['vote'])}</td>"
    rows.append(f'<tr><th scope="row">{result.vocabulary.none}</th>{none}</tr>')
    return (
        '<table class="bars posteriors"><caption>Posteriors of each network, and of their vote'
        "</caption>"
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def colour(name: str, place: int) -> str:
    """The colour of a network."""
    return COLOURS.get(name, OTHERS[place % len(OTHERS)])


def bar(share: float, fill: str, text: str = "") -> str:
    """A bar of a share, 0 to 1, with its value."""
    width = 100 * min(1.0, max(0.0, share))
    label = text or f"{share:.0%}"
    return (
        f'<span class="bar"><span><i style="width:{width:.1f}%;background:{fill}"></i></span>'
        f"<b>{escaped(label)}</b></span>"
    )


def chart(title: str, counts: Mapping[str, float], form: str = "{:g}", top: float = 0.0) -> str:
    """Values as bars, the longest (or `top`) as wide as the chart."""
    if not counts:
        return (
            f'<table class="bars"><caption>{escaped(title)}</caption>'
            "<tr><td>nothing yet</td></tr></table>"
        )
    most = top or max(counts.values()) or 1
    rows = "".join(
        f'<tr><th scope="row">{escaped(name)}</th>'
        f"<td>{bar(value / most, COLOURS['cnn'], form.format(value))}</td></tr>"
        for name, value in counts.items()
    )
    return f'<table class="bars"><caption>{escaped(title)}</caption>{rows}</table>'


def confusion(accuracy: float, counts: Counter[tuple[int, int]]) -> str:
    """Accuracy, and a table of what was spoken (rows) and answered (columns)."""
    total = sum(counts.values())
    names = [*config.DIGITS, "none"]
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = []
    for label in range(config.REJECT):
        row = [counts[label, answer] for answer in range(config.N_ANSWERS)]
        cells = "".join(
            f'<td style="background:{shade(count / max(1, sum(row)), label == answer)}">'
            f"{count or ''}</td>"
            for answer, count in enumerate(row)
        )
        rows.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    right = round(accuracy * total)
    return (
        f"<p><strong>Accuracy {accuracy:.1%}</strong> ({right} of {total} files whose names carry "
        'a label)</p><div class="scroll"><table class="confusion"><caption>Spoken (rows) and '
        f"answered (columns)</caption><thead><tr><th></th>{heads}</tr></thead><tbody>"
        f"{''.join(rows)}</tbody></table></div>"
    )


def shade(share: float, right: bool) -> str:
    """A cell's colour."""
    red, green, blue = (0, 158, 115) if right else (213, 94, 0)
    return f"rgba({red},{green},{blue},{0.6 * share:.2f})"


def string(digits: Sequence[int]) -> str:
    """Digits out of a stream."""
    text = " ".join(map(str, digits))
    kind = "string" if digits else "string empty"
    return (
        f'<p class="{kind}" role="log" aria-live="polite" aria-label="digits">'
        f"{escaped(text or 'Digits appear here.')}</p>"
    )


def level(dbfs: float, state: str) -> str:
    """A level meter, -60 to 0 dBFS, with a word on what is heard."""
    share = min(1.0, max(0.0, 1 + dbfs / 60))
    fill = COLOURS["vote"] if state == "speech" else COLOURS["cnn"]
    return (
        f'<div class="meter" role="meter" aria-label="level" aria-valuemin="-60" aria-valuemax="0" '
        f'aria-valuenow="{dbfs:.0f}">{bar(share, fill, f"{dbfs:.0f} dBFS, {state}")}</div>'
    )
