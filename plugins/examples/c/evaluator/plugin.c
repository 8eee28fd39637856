/* An evaluator: an answer is right if it begins with the reference. Put your rule in its place. */

#define GRAFT_EVALUATOR
#define GRAFT_PLUGIN_IMPLEMENTATION
#include "graft_plugin.h"

static bool start(graft_text options, uint64_t seed, void **run) {
    (void)seed, (void)run; /* No chance, and nothing to keep between two answers. */
    /* Knows no option; one that is given is an error rather than without effect. */
    return graft_only_options(options, 0);
}

static bool score(void *run, const graft_sample *reference, const graft_prediction *predicted, graft_scores *scores) {
    (void)run;
    graft_text hoped;
    if (!graft_reference(reference, &hoped)) return false;
    hoped = graft_trimmed(hoped);
    graft_text said = graft_trimmed(predicted->text);
    if (said.length > hoped.length) said.length = hoped.length;
    graft_add_score(scores, graft_literal("begins-right"), graft_equal(said, hoped) ? 1.0 : 0.0, 1.0);
    return true;
}

static const graft_metric metrics[] = {{.name = GRAFT_TEXT("begins-right"), .unit = GRAFT_TEXT(""), .higher_is_better = true}};

const graft_evaluator graft_plugin = {
    .metrics = GRAFT_LIST(metrics),
    .options_schema = GRAFT_TEXT("{\"type\": \"object\", \"properties\": {}, \"additionalProperties\": false}"),
    .start = start,
    .score = score,
};
