"""A converter: one sample per line of a text file, `question<TAB>answer`. Put your format in its place."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.converter import Description, Format, Summary
from wit_world.imports import host
from wit_world.imports.dataset import Part_Text, Role, Sample, Turn
from wit_world.imports.types import Diagnostic, Error_InvalidOptions, Location, Severity

CHUNK = 64 * 1024
BATCH = 64


class Converter(exports.Converter):
    def describe(self):
        return Description(
            formats=[Format("question-tab-answer", "Questions and answers, one pair a line", ["tsv", "txt"])],
            options_schema=json.dumps({"type": "object", "properties": {}, "additionalProperties": False}),
        )

    def detect(self, head, name):
        return 20 if b"\t" in head else 0

    def convert(self, input, output, options):
        # Knows no option; one that is given is an error rather than without effect.
        for name in json.loads(options):
            raise Err(Error_InvalidOptions(f"/{name}: there is no such option"))
        source = input.name()
        summary = Summary(records=0, samples=0, skipped=0)
        batch = []
        for number, offset, line in lines(input):
            summary.records += 1
            at = Location(source, offset, number, None, number - 1, None)
            try:
                question, answer = line.decode().split("\t", 1)
            except UnicodeDecodeError:
                skip(summary, "not-utf8", "the line is not UTF-8", at)
                continue
            except ValueError:
                skip(summary, "no-tab", "the line has no tab between question and answer", at)
                continue
            turns = [says(Role.USER, question), says(Role.ASSISTANT, answer)]
            batch.append(Sample(id=str(number), images=[], turns=turns, origin=at, extra=[]))
            summary.samples += 1
            if len(batch) == BATCH:
                output.emit(batch)
                batch = []
        output.emit(batch)
        return summary


def skip(summary, code, message, at):
    summary.skipped += 1
    host.report(Diagnostic(Severity.WARNING, code, message, at))


def says(role, text):
    return Turn(role, [Part_Text(text)])


def lines(input):
    """Number, offset and bytes of every line, one at a time."""
    rest, offset, number, size = b"", 0, 0, input.size()
    host.checkpoint(offset, size)
    while chunk := input.read(CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            number += 1
            yield number, offset, line.removesuffix(b"\r")
            offset += len(line) + 1
        host.checkpoint(offset, size)  # raises when the user stops; graft gets what is raised
    if rest:
        yield number + 1, offset, rest.removesuffix(b"\r")
