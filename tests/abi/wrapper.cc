// The C++ interface: wrapper MODEL EXPORT_FOLDER OUTPUT_FOLDER
#include "graft.hpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                  \
        }                                                                                  \
    } while (0)

/// The error that a call throws.
template <class F> graft::Error thrown(F call) {
    try {
        call();
    } catch (const graft::Error &error) {
        return error;
    }
    std::fprintf(stderr, "nothing was thrown\n");
    std::exit(1);
}

struct Own {
    int number;
};

// In second.cc: the header in another translation unit.
std::string fingerprint(const graft::Model &model);

static void models(const std::string &path) {
    CHECK(graft::is_compatible() && graft::version() == "0.1.0" && graft::has_feature("plugins"));
    graft::Model model = graft::Model::open(path);
    CHECK(model.info().n_layers > 0 && model.metadata("general.architecture") == "\"llama\"");
    CHECK(model.tensors().front() == '[' && model.metadata().front() == '{');
    graft::Model other = model;
    model = graft::Model();
    CHECK(!model && other.info().n_layers > 0 && fingerprint(other).size() == 64);
    graft::Model moved = std::move(other);
    CHECK(!other && moved);
    other = moved;
    other = std::move(moved);
    CHECK(other.info().n_vocabulary > 0);

    const graft::Error missing = thrown([] { graft::Model::open("no/such.gguf"); });
    CHECK(missing.status() == GRAFT_E_NOT_FOUND && missing.detail("path") == "no/such.gguf");
    CHECK(!missing.detail("tensor") && missing.json().find("GRAFT_E_NOT_FOUND") != std::string::npos);
    CHECK(std::string(missing.what()).find("no/such.gguf") != std::string::npos);
    CHECK(thrown([] { graft::Model().info(); }).status() == GRAFT_E_HANDLE);
}

static void runtimes(const std::string &path) {
    graft::RuntimeOptions options;
    options.n_threads = 1;
    graft::Runtime runtime = graft::Runtime::create(options);
    auto lines = std::make_shared<int>(0);
    runtime.log_to(GRAFT_LOG_TRACE, [lines](graft_log_level, std::string_view, std::string_view) { ++*lines; });
    graft::Model model = graft::Model::open(path, {}, runtime);
    CHECK(thrown([] { graft::Model().info(); }).status() == GRAFT_E_HANDLE);
    CHECK(*lines > 0 && lines.use_count() == 2);
    CHECK(!runtime.devices().empty() && runtime.memory().limit == 0);
    runtime = graft::Runtime();
    CHECK(model.info().n_threads == 1);
    model = graft::Model();
    CHECK(lines.use_count() == 1);
    graft::Cancel cancel = graft::Cancel::create();
    cancel.signal();
    CHECK(cancel.is_signalled());
    cancel.reset();
    CHECK(!cancel.is_signalled());
}

static void plugins(const std::string &folder, const std::string &output) {
    graft::Plugin plugin = graft::Plugin::load("ubiai");
    CHECK(plugin.detect("a,b\n", "table.csv") == 0 && plugin.info().front() == '{');
    graft::Conversion conversion;
    conversion.input = folder + "/export.json";
    conversion.output = output + "/train.json";
    conversion.assets = folder + "/images";
    CHECK(plugin.convert(conversion).samples > 0);
    CHECK(std::filesystem::remove(conversion.output));
    int calls = 0;
    const auto report = plugin.convert(
        conversion, [&](std::uint64_t done, std::uint64_t total) { calls++; return done <= total; },
        [](const graft::Remark &) {});
    CHECK(report.samples > 0 && calls > 0 && std::filesystem::remove(conversion.output));

    // Exceptions of callbacks come out of the call, and leave nothing behind.
    try {
        plugin.convert(
            conversion, [](std::uint64_t, std::uint64_t) { throw Own{7}; }, [](const graft::Remark &) {});
        CHECK(!"an exception was lost");
    } catch (const Own &own) {
        CHECK(own.number == 7);
    }
    const auto stop = [](std::uint64_t, std::uint64_t) { return false; };
    CHECK(thrown([&] { plugin.convert(conversion, stop, [](const graft::Remark &) {}); }).status() ==
          GRAFT_E_CANCELLED);
    CHECK(!std::filesystem::exists(conversion.output));
}

static void registries_and_batches(const std::string &path) {
    graft::Model model = graft::Model::open(path);
    graft::Registry registry = graft::Registry::create(model);
    CHECK(registry.info().n_names == 0 && thrown([&] { registry.find("a"); }).status() == GRAFT_E_NOT_FOUND);
    CHECK(thrown([&] { registry.load("a", "no/such.gguf"); }).status() == GRAFT_E_NOT_FOUND);
    CHECK(thrown([&] { registry.publish("a", {}, GRAFT_PUBLISH_REPLACE); }).status() == GRAFT_E_HANDLE);
    CHECK(registry.list().find("\"names\":[]") != std::string::npos);

    graft::Batch batch = graft::Batch::create(model);
    graft::Session first = graft::Session::create(model), second = graft::Session::create(model);
    graft::GenerateOptions options;
    options.max_tokens = 4;
    std::string alone, together[2];
    first.generate("How are you?", [&](std::string_view text) { alone += text; }, options);
    first.reset();
    const std::vector<graft::Message> messages = {{"user", "How are you?", {}}};
    const std::vector<graft::BatchRequest> requests = {{&first, messages, options}, {&second, messages, options}};
    const auto results =
        batch.generate(requests, [&](std::size_t number, std::string_view text) { together[number] += text; });
    CHECK(results.size() == 2 && results[1].n_generated > 0);
    CHECK(together[0] == alone && together[1] == alone);
    try {
        batch.generate(requests, [](std::size_t, std::string_view) { throw Own{8}; });
        CHECK(!"an exception was lost");
    } catch (const Own &own) {
        CHECK(own.number == 8);
    }
    first.reset();
    second.reset();
    batch.feed({{&first, {1, 5}, {}}, {&second, {1}, {}}});
    const auto logits = batch.logits({&first, &second});
    CHECK(logits.size() == 2 && logits[0] != logits[1] && logits[0].size() == model.info().n_vocabulary);
    const std::vector<float> again = first.logits();
    for (std::size_t i = 0; i < again.size(); i++) CHECK(std::abs(again[i] - logits[0][i]) < 1e-3f);
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    models(argv[1]);
    runtimes(argv[1]);
    plugins(argv[2], argv[3]);
    registries_and_batches(argv[1]);
    return 0;
}
