// An evaluator: an answer is right if it begins with the reference. Put your rule in its place.

class Run {
  score(reference, predicted) {
    const answer = reference.turns.findLast((turn) => turn.role === "assistant");
    if (answer === undefined) {
      throw {
        tag: "invalid-input",
        val: {
          severity: "error",
          code: "no-reference",
          message: `sample ${JSON.stringify(reference.id)} has no answer to compare with`,
          at: reference.origin,
        },
      };
    }
    const texts = answer.content.filter((part) => part.tag === "text").map((part) => part.val);
    const right = predicted.text.trim().startsWith(texts.join("").trim());
    return [{ metric: "begins-right", value: right ? 1 : 0, weight: 1 }];
  }

  /** Nothing to say of the whole set: the mean of the scores is all there is. */
  finish() {
    return [];
  }
}

export const evaluator = {
  Run,

  describe() {
    return {
      metrics: [{ name: "begins-right", unit: "", higherIsBetter: true }],
      optionsSchema: JSON.stringify({ type: "object", properties: {}, additionalProperties: false }),
    };
  },

  start(options, _seed) {
    // Knows no option; one that is given is an error rather than without effect.
    for (const name of Object.keys(JSON.parse(options))) {
      throw { tag: "invalid-options", val: `/${name}: there is no such option` };
    }
    return new Run();
  },
};
