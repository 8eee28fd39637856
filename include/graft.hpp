// graft.hpp - graft for C++17 and later, written on graft.h alone: nothing of it is compiled into the library, so programs
// of any compiler and standard library may use it.
//
//     graft::Model model = graft::Model::open("model.gguf");
//     graft::Session session = graft::Session::create(model);
//     session.generate("What is the total?", [](std::string_view text) { std::cout << text << std::flush; });
//
// Objects own what they name and can be moved; those that threads share (Runtime, Model, Image, Adapter, Dataset, Plugin)
// can be copied too, which counts a reference. What graft.h says of threads, cancelling and memory holds here.
//
// A failure throws graft::Error. With GRAFT_NO_EXCEPTIONS defined, functions return graft::Result<T> instead. A callback may
// throw: the call stops as if it were cancelled, and the exception comes out of it.
#ifndef GRAFT_HPP
#define GRAFT_HPP

#include "graft.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace graft {
inline namespace v1 {

// ------------------------------------------------------------------------------------------------------- failures

/// Why a call failed: a sentence, a status, and details by the keys of graft_error_detail.
class Error : public std::runtime_error {
public:
    Error(graft_status status, const std::string &message, std::string json = {})
        : std::runtime_error(message), status_(status), json_(std::move(json)) {}

    /// Takes the object that a call gave.
    static Error take(graft_status status, graft_error *object) {
        if (object == nullptr) return Error(status, graft_status_name(status));
        Error error(status, graft_error_message(object));
        graft_buffer *json = nullptr;
        if (graft_error_json(object, &json) == GRAFT_OK) {
            error.json_.assign(static_cast<const char *>(graft_buffer_data(json)), graft_buffer_size(json));
            graft_buffer_release(json);
        }
        for (const char *key : {"path", "offset", "tensor", "field", "line", "column", "record", "sample", "step",
                                "needed", "smallest", "code"}) {
            if (const char *value = graft_error_detail(object, key)) error.details_.emplace_back(key, value);
        }
        graft_error_release(object);
        return error;
    }

    graft_status status() const noexcept { return status_; }
    /// What failed, as a JSON object.
    const std::string &json() const noexcept { return json_; }
    std::optional<std::string> detail(std::string_view key) const {
        for (const auto &[name, value] : details_) {
            if (name == key) return value;
        }
        return std::nullopt;
    }

private:
    graft_status status_;
    std::string json_;
    std::vector<std::pair<std::string, std::string>> details_;
};

#ifdef GRAFT_NO_EXCEPTIONS
/// A value, or why there is none.
template <class T> class Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : error_(std::move(error)) {}
    explicit operator bool() const noexcept { return value_.has_value(); }
    T &operator*() & { return *value_; }
    T &&operator*() && { return std::move(*value_); }
    T *operator->() { return &*value_; }
    /// There is one if there is no value.
    const Error &error() const { return *error_; }

private:
    std::optional<T> value_;
    std::optional<Error> error_;
};

template <> class Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}
    explicit operator bool() const noexcept { return !error_.has_value(); }
    const Error &error() const { return *error_; }

private:
    std::optional<Error> error_;
};

template <class T> using Outcome = Result<T>;
#else
template <class T> using Outcome = T;
#endif

namespace detail {

/// An exception on its way through a callback, which must not throw itself.
struct Caught {
    std::exception_ptr exception;

    /// Runs a callback: what it returns, or `stop` if it threw.
    template <class F> std::int32_t run(F &&callback) noexcept {
#ifdef GRAFT_NO_EXCEPTIONS
        return callback();
#else
        try {
            return callback();
        } catch (...) {
            exception = std::current_exception();
            return 1;
        }
#endif
    }
};

/// The end of a call: its value, or its failure.
template <class F>
auto finish(graft_status status, graft_error *error, F value, const Caught *caught = nullptr)
    -> Outcome<decltype(value())> {
#ifdef GRAFT_NO_EXCEPTIONS
    (void)caught;
    if (status < 0) return Error::take(status, error);
    if constexpr (std::is_void_v<decltype(value())>) {
        value();
        return {};
    } else {
        return value();
    }
#else
    if (caught != nullptr && caught->exception) {
        graft_error_release(error);
        std::rethrow_exception(caught->exception);
    }
    if (status < 0) throw Error::take(status, error);
    return value();
#endif
}

inline auto finish(graft_status status, graft_error *error) -> Outcome<void> {
    return finish(status, error, [] {});
}

/// The text of a buffer, which it releases.
inline std::string take(graft_buffer *buffer) {
    std::string text(static_cast<const char *>(graft_buffer_data(buffer)), graft_buffer_size(buffer));
    graft_buffer_release(buffer);
    return text;
}

/// NULL for nothing.
inline const char *text(const std::optional<std::string> &text) { return text ? text->c_str() : nullptr; }

/// What a callback returns: a callable without a result always goes on, one of bool goes on while it is true.
template <class F, class... A> std::int32_t goes_on(F &callback, A &&...arguments) {
    if constexpr (std::is_void_v<std::invoke_result_t<F &, A...>>) {
        callback(std::forward<A>(arguments)...);
        return 0;
    } else {
        return callback(std::forward<A>(arguments)...) ? 0 : 1;
    }
}

/// An object of one owner.
template <class T, void (*release)(T *) noexcept> class Owned {
public:
    Owned() = default;
    explicit Owned(T *object) noexcept : object_(object) {}
    Owned(Owned &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Owned &operator=(Owned &&other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { release(object_); }
    /// The C object, for functions of graft.h; it stays this one's.
    T *get() const noexcept { return object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }

private:
    T *object_ = nullptr;
};

/// An object that several own.
template <class T, void (*retain)(T *) noexcept, void (*release)(T *) noexcept>
class Shared : public Owned<T, release> {
public:
    using Owned<T, release>::Owned;
    Shared(Shared &&) noexcept = default;
    Shared &operator=(Shared &&) noexcept = default;
    Shared(const Shared &other) noexcept : Owned<T, release>(other.get()) {
        if (other) retain(other.get());
    }
    Shared &operator=(const Shared &other) noexcept { return *this = Shared(other); }
};

} // namespace detail

/// A struct of graft.h, begun: every field is its default.
template <class T> struct Begun : T {
    Begun() : T() { this->struct_size = static_cast<std::uint32_t>(sizeof(T)); }
};

// -------------------------------------------------------------------------------------------------------- library

/// The library that runs, "0.1.0".
inline std::string version() { return graft_library_version_string(); }
/// Whether the library that runs is one this header is for.
inline bool is_compatible() noexcept { return graft_library_abi() == GRAFT_ABI; }
inline bool has_feature(const std::string &name) noexcept { return graft_library_has_feature(name.c_str()) != 0; }

/// A flag that stops calls; may be signalled from any thread and from signal handlers.
class Cancel : public detail::Owned<graft_cancel, graft_cancel_release> {
public:
    using Owned::Owned;
    static Outcome<Cancel> create() {
        graft_cancel *cancel = nullptr;
        const graft_status status = graft_cancel_create(&cancel);
        return detail::finish(status, nullptr, [&] { return Cancel(cancel); });
    }
    void signal() const noexcept { graft_cancel_signal(get()); }
    bool is_signalled() const noexcept { return graft_cancel_is_signalled(get()) != 0; }
    void reset() const noexcept { graft_cancel_reset(get()); }
};

// -------------------------------------------------------------------------------------------------------- runtime

using RuntimeOptions = Begun<graft_runtime_options>;
using MemoryStats = Begun<graft_memory_stats>;
using DeviceInfo = Begun<graft_device_info>;

/// What models, trainers and plugins share. Functions that take one have the process's own by default.
class Runtime : public detail::Shared<graft_runtime, graft_runtime_retain, graft_runtime_release> {
public:
    using Shared::Shared;
    static Outcome<Runtime> create(const RuntimeOptions &options = {}) {
        graft_runtime *runtime = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_runtime_create(&options, &runtime, &error);
        return detail::finish(status, error, [&] { return Runtime(runtime); });
    }

    /// Sends the log to `log(level, target, message)`, which may be called from any thread, from several at once, and must
    /// not throw.
    template <class F> Outcome<void> log_to(graft_log_level level, F log) {
        auto *callback = new F(std::move(log));
        graft_error *error = nullptr;
        const graft_status status = graft_runtime_set_log(
            get(), level,
            [](void *userdata, graft_log_level level, const char *target, const char *message, std::size_t length) {
                (*static_cast<F *>(userdata))(level, std::string_view(target), std::string_view(message, length));
            },
            callback, [](void *userdata) { delete static_cast<F *>(userdata); }, &error);
        return detail::finish(status, error);
    }

    Outcome<MemoryStats> memory() const {
        MemoryStats stats;
        const graft_status status = graft_runtime_memory(get(), &stats);
        return detail::finish(status, nullptr, [&] { return stats; });
    }

    Outcome<std::vector<DeviceInfo>> devices() const {
        std::uint32_t count = 0;
        graft_status status = graft_device_count(get(), &count);
        std::vector<DeviceInfo> devices(status < 0 ? 0 : count);
        for (std::uint32_t i = 0; i < devices.size() && status >= 0; i++) {
            status = graft_device_get(get(), i, &devices[i]);
        }
        return detail::finish(status, nullptr, [&] { return devices; });
    }
};

// --------------------------------------------------------------------------------------------------------- models

using ModelOptions = Begun<graft_model_options>;
using ModelInfo = Begun<graft_model_info>;
using Source = Begun<graft_source>;

/// An opened model file.
class Model : public detail::Shared<graft_model, graft_model_retain, graft_model_release> {
public:
    using Shared::Shared;
    static Outcome<Model> open(const std::string &path, const ModelOptions &options = {}, const Runtime &runtime = {}) {
        graft_model *model = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_model_open(runtime.get(), path.c_str(), &options, &model, &error);
        return detail::finish(status, error, [&] { return Model(model); });
    }

    /// A model that sees: `projector` is its vision half.
    static Outcome<Model> open_seeing(const std::string &path, const std::string &projector,
                                      ModelOptions options = {}, const Runtime &runtime = {}) {
        options.projector_path = projector.c_str();
        return open(path, options, runtime);
    }

    static Outcome<Model> open(const Source &source, const ModelOptions &options = {}, const Runtime &runtime = {}) {
        graft_model *model = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_model_open_source(runtime.get(), &source, &options, &model, &error);
        return detail::finish(status, error, [&] { return Model(model); });
    }

    Outcome<ModelInfo> info() const {
        ModelInfo info;
        const graft_status status = graft_model_get_info(get(), &info);
        return detail::finish(status, nullptr, [&] { return info; });
    }

    /// The value of a metadata key as JSON; without a key, an object of all.
    Outcome<std::string> metadata(const std::optional<std::string> &key = std::nullopt) const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_model_metadata(get(), detail::text(key), &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }

    /// The tensors as a JSON array.
    Outcome<std::string> tensors() const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_model_tensors(get(), &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }
};

// -------------------------------------------------------------------------------------------------------- plugins

using PluginOptions = Begun<graft_plugin_options>;
using PluginLimits = Begun<graft_plugin_limits>;
using ConvertReport = Begun<graft_convert_report>;

/// A remark about data.
struct Remark {
    std::uint32_t severity;
    std::string_view code;
    std::string_view message;
    std::string_view json;
};

/// What a conversion has besides a plugin and an export.
struct Conversion {
    std::string input;
    std::string output;
    /// The folder of the files that the export names; else that of the export.
    std::optional<std::string> assets;
    /// A JSON object.
    std::optional<std::string> options;
    const Cancel *cancel = nullptr;
};

/// A WebAssembly component that turns exports into samples, or scores predictions.
class Plugin : public detail::Shared<graft_plugin, graft_plugin_retain, graft_plugin_release> {
public:
    using Shared::Shared;
    static Outcome<Plugin> load(const std::string &path, const PluginOptions &options = {},
                                const Runtime &runtime = {}) {
        graft_plugin *plugin = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_plugin_load(runtime.get(), path.c_str(), &options, &plugin, &error);
        return detail::finish(status, error, [&] { return Plugin(plugin); });
    }

    Outcome<std::string> info() const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_plugin_info(get(), &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }

    /// 0 to 100: how sure a converter is that it reads such a file.
    Outcome<std::uint32_t> detect(std::string_view head, const std::string &name) const {
        std::uint32_t sure = 0;
        graft_error *error = nullptr;
        const graft_status status =
            graft_plugin_detect(get(), head.data(), head.size(), name.c_str(), &sure, &error);
        return detail::finish(status, error, [&] { return sure; });
    }

    /// Converts an export. `on_progress(done, total)` and `on_remark(remark)` are called on this thread.
    template <class P, class R>
    Outcome<ConvertReport> convert(const Conversion &conversion, P on_progress, R on_remark) const {
        struct Callbacks {
            P &progress;
            R &remark;
            detail::Caught caught;
        } callbacks{on_progress, on_remark, {}};
        Begun<graft_convert_request> request;
        request.input_path = conversion.input.c_str();
        request.output_path = conversion.output.c_str();
        request.asset_dir = detail::text(conversion.assets);
        request.options_json = detail::text(conversion.options);
        request.cancel = conversion.cancel != nullptr ? conversion.cancel->get() : nullptr;
        request.userdata = &callbacks;
        request.on_progress = [](void *userdata, const char *, std::uint64_t done, std::uint64_t total) {
            auto &callbacks = *static_cast<Callbacks *>(userdata);
            return callbacks.caught.run([&] { return detail::goes_on(callbacks.progress, done, total); });
        };
        request.on_diagnostic = [](void *userdata, std::uint32_t severity, const char *code, const char *message,
                                   const char *json) {
            auto &callbacks = *static_cast<Callbacks *>(userdata);
            const Remark remark{severity, code, message, json};
            return callbacks.caught.run([&] { return detail::goes_on(callbacks.remark, remark); });
        };
        ConvertReport report;
        graft_error *error = nullptr;
        const graft_status status = graft_plugin_convert(get(), &request, &report, &error);
        return detail::finish(status, error, [&] { return report; }, &callbacks.caught);
    }

    Outcome<ConvertReport> convert(const Conversion &conversion) const {
        return convert(conversion, [](std::uint64_t, std::uint64_t) {}, [](const Remark &) {});
    }
};

} // namespace v1
} // namespace graft

#endif // GRAFT_HPP
