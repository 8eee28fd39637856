/* Training and generation on each graphics device, beside the processor: device MODEL MMPROJ DATA IMAGES SCRATCH
 * Without a device nothing is checked, which is a failure if GPU_REQUIRED is 1. */
#include <math.h>

#include "check.h"
#include "graft.h"

#define STEPS 3

static graft_error *error;
static graft_dataset *data;
static const char *scratch;

static graft_model *opened(char **argv, const char *device, uint32_t layers) {
    graft_model_options options = GRAFT_INIT(graft_model_options);
    options.projector_path = argv[2];
    options.device = device;
    options.n_device_layers = layers;
    options.n_device_context = 128;
    graft_model *model = NULL;
    OK(graft_model_open(NULL, argv[1], &options, &model, &error));
    return model;
}

static graft_train_options usual(void) {
    graft_train_options options = GRAFT_INIT(graft_train_options);
    options.rank = 4;
    options.batch_size = 2;
    options.learning_rate = 1e-3;
    options.max_steps = STEPS;
    return options;
}

static graft_trainer *trainer_of(graft_model *model, const graft_train_options *options) {
    graft_trainer *trainer = NULL;
    OK(graft_trainer_create(model, data, NULL, options, &trainer, &error));
    return trainer;
}

/* The losses of the steps from `from` on. */
static void learn(graft_trainer *trainer, int from, double *losses) {
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    for (int i = from; i < STEPS; i++) {
        OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
        CHECK(metrics.step == (uint64_t)i + 1 && metrics.grad_norm > 0);
        losses[i] = metrics.loss;
    }
}

static void near(const double *got, const double *want, int from) {
    for (int i = from; i < STEPS; i++) {
        CHECK(fabs(got[i] - want[i]) < 1e-3 * want[i]);
    }
}

static void learns_as_the_processor(char **argv, const char *device, uint32_t layers, const double *want) {
    double losses[STEPS], again[STEPS];
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%u", scratch, device, layers);
    graft_train_options options = usual();
    graft_model *model = opened(argv, device, layers);
    graft_trainer *trainer = trainer_of(model, &options);
    learn(trainer, 0, losses);
    near(losses, want, 0);
    graft_trainer_release(trainer);

    /* The same bits again, by way of a checkpoint. */
    graft_train_metrics metrics = GRAFT_INIT(graft_train_metrics);
    trainer = trainer_of(model, &options);
    OK(graft_trainer_step(trainer, 1, NULL, &metrics, &error));
    CHECK(metrics.loss == losses[0]);
    OK(graft_trainer_checkpoint(trainer, path, NULL, &error));
    graft_trainer_release(trainer);
    options.resume_from = path;
    trainer = trainer_of(model, &options);
    learn(trainer, 1, again);
    CHECK(again[1] == losses[1] && again[2] == losses[2]);
    graft_trainer_release(trainer);
    graft_model_release(model);

    /* And the rest on the processor. */
    model = opened(argv, "cpu", 0);
    trainer = trainer_of(model, &options);
    learn(trainer, 1, again);
    near(again, want, 1);
    graft_trainer_release(trainer);
    graft_model_release(model);
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    scratch = argv[5];
    uint32_t devices = 0;
    OK(graft_device_count(NULL, &devices));
    if (devices < 2) {
        const char *required = getenv("GPU_REQUIRED");
        CHECK(!required || strcmp(required, "1"));
        fprintf(stderr, "no graphics device here: NOT CHECKED (GPU_REQUIRED=1 makes this a failure)\n");
        return 0;
    }
    OK(graft_dataset_open(argv[3], argv[4], &data, &error));
    double want[STEPS];
    graft_train_options options = usual();
    graft_model *model = opened(argv, "cpu", 0);
    graft_trainer *trainer = trainer_of(model, &options);
    learn(trainer, 0, want);
    graft_trainer_release(trainer);
    graft_model_release(model);
    for (uint32_t i = 1; i < devices; i++) {
        graft_device_info device = GRAFT_INIT(graft_device_info);
        OK(graft_device_get(NULL, i, &device));
        /* All layers stay on the device; then one does, and the others pass through it. */
        learns_as_the_processor(argv, device.name, 0, want);
        learns_as_the_processor(argv, device.name, 1, want);
    }
    graft_dataset_release(data);
    return 0;
}
