// Trains an adapter, pauses on Ctrl-C, goes on when run again, and uses what was learned at once:
//
//     train MODEL DATA.json RUN_FOLDER ["A question"]
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include <graft.hpp>

static graft::Cancel interrupted;

static void draw(const graft_train_metrics &metrics) {
    constexpr int width = 30;
    const int done = metrics.steps > 0 ? static_cast<int>(width * metrics.step / metrics.steps) : 0;
    std::printf("\r[%s%s] %llu/%llu  loss %.4f  %.0f s left ", std::string(done, '#').c_str(),
                std::string(width - done, '.').c_str(), static_cast<unsigned long long>(metrics.step),
                static_cast<unsigned long long>(metrics.steps), metrics.mean_loss, metrics.remaining_seconds);
    std::fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        std::cerr << "usage: train MODEL DATA RUN_FOLDER [QUESTION]\n";
        return 2;
    }
    const std::string folder = argv[3];
    try {
        interrupted = graft::Cancel::create();
        std::signal(SIGINT, [](int) { interrupted.signal(); });

        const graft::Model model = graft::Model::open(argv[1]);
        const graft::Dataset data = graft::Dataset::open(argv[2]);

        graft::TrainOptions options;
        options.rank = 8;
        options.epochs = 1;
        options.run_folder = folder.c_str();
        options.memory_budget = std::uint64_t(4) << 30;
        if (std::filesystem::exists(folder)) options.resume_from = folder.c_str();

        const graft::Plan plan = graft::plan(model, data, options);
        std::printf("%llu updates, %.0f MiB at once\n", static_cast<unsigned long long>(plan.steps),
                    static_cast<double>(plan.peak_bytes) / (1 << 20));

        graft::Trainer trainer = graft::Trainer::create(model, data, options);
        const bool finished = trainer.run([](const graft_train_metrics &metrics) {
            draw(metrics);
            return interrupted.is_signalled() ? graft::Train::pause : graft::Train::go_on;
        });
        std::printf("\n");
        if (!finished) {
            std::printf("paused; saved as %s, run again to go on\n", trainer.checkpoint().c_str());
        }

        // No file and no restart in between.
        const graft::Adapter learned = trainer.adapter();
        graft::Session session = graft::Session::create(model);
        session.set_adapter(learned);
        graft::GenerateOptions asking;
        asking.max_tokens = 64;
        if (argc > 4) {
            session.generate(std::string(argv[4]), [](std::string_view text) { std::cout << text << std::flush; }, asking);
            std::cout << "\n";
        }
    } catch (const graft::Error &error) {
        std::cerr << "train: " << error.what() << "\n";
        return 1;
    }
    return 0;
}
