"""An evaluator: an answer is right if it begins with the reference. Put your rule in its place."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import evaluator
from wit_world.exports.evaluator import Description, Metric, Score
from wit_world.imports.dataset import Part_Text, Role
from wit_world.imports.types import Diagnostic, Error_InvalidInput, Error_InvalidOptions, Severity


class Run(evaluator.Run):
    def score(self, reference, predicted):
        answers = [turn for turn in reference.turns if turn.role == Role.ASSISTANT]
        if not answers:
            message = f"sample {reference.id!r} has no answer to compare with"
            raise Err(Error_InvalidInput(Diagnostic(Severity.ERROR, "no-reference", message, reference.origin)))
        hoped = "".join(part.value for part in answers[-1].content if isinstance(part, Part_Text))
        right = predicted.text.strip().startswith(hoped.strip())
        return [Score("begins-right", float(right), 1.0)]

    def finish(self):
        """Nothing to say of the whole set: the mean of the scores is all there is."""
        return []


class Evaluator(exports.Evaluator):
    def describe(self):
        return Description(
            metrics=[Metric("begins-right", "", True)],
            options_schema=json.dumps({"type": "object", "properties": {}, "additionalProperties": False}),
        )

    def start(self, options, seed):
        # Knows no option; one that is given is an error rather than without effect.
        for name in json.loads(options):
            raise Err(Error_InvalidOptions(f"/{name}: there is no such option"))
        return Run()
