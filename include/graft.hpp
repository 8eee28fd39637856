// graft.hpp - graft for C++17 and later, written on graft.h alone: nothing of it is compiled into the library, so programs
// of any compiler and standard library may use it.
//
//     graft::Model model = graft::Model::open("model.gguf");
//     graft::Session session = graft::Session::create(model);
//     session.generate("What is the total?", [](std::string_view text) { std::cout << text << std::flush; });
//
// Objects own what they name and can be moved; those that threads share (Runtime, Model, Image, Adapter, Registry, Dataset,
// Plugin) can be copied too, which counts a reference. What graft.h says of threads, cancelling and memory holds here.
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

// ------------------------------------------------------------------------------------------------------ callbacks

/// A remark about data.
struct Remark {
    std::uint32_t severity;
    std::string_view code;
    std::string_view message;
    std::string_view json;
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

// --------------------------------------------------------------------------------------------------------- images

using ImageLimits = Begun<graft_image_limits>;
using ImageInfo = Begun<graft_image_info>;

/// Pixels.
class Image : public detail::Shared<graft_image, graft_image_retain, graft_image_release> {
public:
    using Shared::Shared;
    static Outcome<Image> open(const std::string &path, const ImageLimits &limits = {}, const Runtime &runtime = {}) {
        graft_image *image = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_image_open(runtime.get(), path.c_str(), &limits, &image, &error);
        return detail::finish(status, error, [&] { return Image(image); });
    }

    /// A PNG, JPEG, WebP, BMP or GIF file in memory.
    static Outcome<Image> decode(std::string_view bytes, const ImageLimits &limits = {}, const Runtime &runtime = {}) {
        graft_image *image = nullptr;
        graft_error *error = nullptr;
        const graft_status status =
            graft_image_decode(runtime.get(), bytes.data(), bytes.size(), &limits, &image, &error);
        return detail::finish(status, error, [&] { return Image(image); });
    }

    /// 8-bit red, green and blue, rows from the top and `stride` bytes apart.
    static Outcome<Image> from_pixels(const std::uint8_t *pixels, std::uint32_t width, std::uint32_t height,
                                      std::size_t stride = 0, const Runtime &runtime = {}) {
        graft_image *image = nullptr;
        graft_error *error = nullptr;
        const graft_status status =
            graft_image_from_pixels(runtime.get(), pixels, width, height, stride, &image, &error);
        return detail::finish(status, error, [&] { return Image(image); });
    }

    Outcome<ImageInfo> info() const {
        ImageInfo info;
        const graft_status status = graft_image_get_info(get(), &info);
        return detail::finish(status, nullptr, [&] { return info; });
    }
};

// ------------------------------------------------------------------------------------------------------- adapters

using AdapterInfo = Begun<graft_adapter_info>;
using AdapterSaveOptions = Begun<graft_adapter_save_options>;
using CompressOptions = Begun<graft_compress_options>;
using MergeOptions = Begun<graft_merge_options>;

struct Binding;

/// A LoRA adapter.
class Adapter : public detail::Shared<graft_adapter, graft_adapter_retain, graft_adapter_release> {
public:
    using Shared::Shared;
    /// A GGUF adapter, or a folder of PEFT or mlx-lm; refused if it was made for another model.
    static Outcome<Adapter> open(const Model &model, const std::string &path) {
        graft_adapter *adapter = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_adapter_open(model.get(), path.c_str(), &adapter, &error);
        return detail::finish(status, error, [&] { return Adapter(adapter); });
    }

    Outcome<AdapterInfo> info() const {
        AdapterInfo info;
        const graft_status status = graft_adapter_get_info(get(), &info);
        return detail::finish(status, nullptr, [&] { return info; });
    }

    /// All there is to say, as JSON.
    Outcome<std::string> metadata() const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_adapter_metadata(get(), &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }

    Outcome<void> save(const std::string &path, const AdapterSaveOptions &options = {}) const {
        graft_error *error = nullptr;
        const graft_status status = graft_adapter_save(get(), path.c_str(), &options, &error);
        return detail::finish(status, error);
    }

    /// Everything it adds, multiplied.
    Outcome<Adapter> scaled(float factor) const {
        graft_adapter *adapter = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_adapter_scale(get(), factor, &adapter, &error);
        return detail::finish(status, error, [&] { return Adapter(adapter); });
    }

    Outcome<Adapter> renamed(const std::string &name) const {
        graft_adapter *adapter = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_adapter_rename(get(), name.c_str(), &adapter, &error);
        return detail::finish(status, error, [&] { return Adapter(adapter); });
    }

    /// The nearest adapter of smaller ranks.
    Outcome<Adapter> compressed(const CompressOptions &options, const Runtime &runtime = {}) const {
        graft_adapter *adapter = nullptr;
        graft_error *error = nullptr;
        const graft_status status =
            graft_adapter_compress(runtime.get(), get(), &options, &adapter, nullptr, &error);
        return detail::finish(status, error, [&] { return Adapter(adapter); });
    }

    /// The weighted sum of adapters of one base.
    static Outcome<Adapter> combine(const std::vector<Binding> &parts, const std::string &name);
};

/// An adapter and how strongly it counts.
struct Binding {
    Adapter adapter;
    float strength = 1.0f;
};

namespace detail {
inline std::vector<graft_adapter_binding> bindings(const std::vector<Binding> &from) {
    std::vector<graft_adapter_binding> bindings;
    for (const Binding &binding : from) {
        Begun<graft_adapter_binding> begun;
        begun.adapter = binding.adapter.get();
        begun.strength = binding.strength;
        bindings.push_back(begun);
    }
    return bindings;
}
} // namespace detail

inline Outcome<Adapter> Adapter::combine(const std::vector<Binding> &parts, const std::string &name) {
    const auto bindings = detail::bindings(parts);
    graft_adapter *adapter = nullptr;
    graft_error *error = nullptr;
    const graft_status status =
        graft_adapter_combine(bindings.data(), bindings.size(), name.c_str(), &adapter, &error);
    return detail::finish(status, error, [&] { return Adapter(adapter); });
}

// ----------------------------------------------------------------------------------------------------- registries

using RegistryOptions = Begun<graft_registry_options>;
using RegistryInfo = Begun<graft_registry_info>;

/// A model's adapters by name. Functions that publish return the generation that the name stands for then.
class Registry : public detail::Shared<graft_registry, graft_registry_retain, graft_registry_release> {
public:
    using Shared::Shared;
    /// What a name stood for when it was asked.
    struct Named {
        Adapter adapter;
        std::string generation;
    };

    static Outcome<Registry> create(const Model &model, const RegistryOptions &options = {}) {
        graft_registry *registry = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_registry_create(model.get(), &options, &registry, &error);
        return detail::finish(status, error, [&] { return Registry(registry); });
    }

    /// A file or folder under a name; `expected` is for GRAFT_PUBLISH_SWAP.
    Outcome<std::string> load(const std::string &name, const std::string &path,
                              std::uint32_t how = GRAFT_PUBLISH_CREATE,
                              const std::optional<std::string> &expected = std::nullopt) const {
        char generation[GRAFT_GENERATION_SIZE] = "";
        graft_error *error = nullptr;
        const graft_status status = graft_registry_load(get(), name.c_str(), path.c_str(), how,
                                                        detail::text(expected), generation, &error);
        return detail::finish(status, error, [&] { return std::string(generation); });
    }

    /// An adapter that is there, under a name.
    Outcome<std::string> publish(const std::string &name, const Adapter &adapter,
                                 std::uint32_t how = GRAFT_PUBLISH_CREATE,
                                 const std::optional<std::string> &expected = std::nullopt) const {
        char generation[GRAFT_GENERATION_SIZE] = "";
        graft_error *error = nullptr;
        const graft_status status = graft_registry_publish(get(), name.c_str(), adapter.get(), how,
                                                           detail::text(expected), generation, &error);
        return detail::finish(status, error, [&] { return std::string(generation); });
    }

    Outcome<Named> find(const std::string &name) const {
        graft_adapter *adapter = nullptr;
        char generation[GRAFT_GENERATION_SIZE] = "";
        graft_error *error = nullptr;
        const graft_status status = graft_registry_get(get(), name.c_str(), &adapter, generation, &error);
        return detail::finish(status, error, [&] { return Named{Adapter(adapter), generation}; });
    }

    /// Keeps it in memory, or lets it leave again.
    Outcome<void> pin(const std::string &name, bool pinned = true) const {
        graft_error *error = nullptr;
        const graft_status status = graft_registry_pin(get(), name.c_str(), pinned ? 1 : 0, &error);
        return detail::finish(status, error);
    }

    Outcome<void> unload(const std::string &name) const {
        graft_error *error = nullptr;
        const graft_status status = graft_registry_unload(get(), name.c_str(), &error);
        return detail::finish(status, error);
    }

    /// Names and what is in memory, as JSON.
    Outcome<std::string> list() const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_registry_list(get(), &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }

    Outcome<RegistryInfo> info() const {
        RegistryInfo info;
        const graft_status status = graft_registry_get_info(get(), &info);
        return detail::finish(status, nullptr, [&] { return info; });
    }
};

// ------------------------------------------------------------------------------------------------------- sessions

using SessionOptions = Begun<graft_session_options>;
using SessionInfo = Begun<graft_session_info>;
using Sampling = Begun<graft_sampling>;
using GenerateResult = Begun<graft_generate_result>;

/// One turn of a conversation, with images in front of its text.
struct Message {
    std::string role;
    std::string text;
    std::vector<Image> images;
};

/// How to generate.
struct GenerateOptions {
    std::uint32_t max_tokens = 0;
    Sampling sampling;
    std::vector<std::string> stops;
    std::uint64_t timeout_ms = 0;
    const Cancel *cancel = nullptr;
};

namespace detail {
/// Messages as C has them; the messages must stay.
struct Turns {
    std::vector<graft_message> turns;
    std::vector<std::vector<graft_image *>> images;

    explicit Turns(const std::vector<Message> &messages) : images(messages.size()) {
        for (std::size_t i = 0; i < messages.size(); i++) {
            for (const Image &image : messages[i].images) images[i].push_back(image.get());
            Begun<graft_message> turn;
            turn.role = messages[i].role.c_str();
            turn.text = messages[i].text.data();
            turn.text_len = messages[i].text.size();
            turn.images = images[i].data();
            turn.n_images = static_cast<std::uint32_t>(images[i].size());
            turns.push_back(turn);
        }
    }

    void ask(graft_generate_request &request) const {
        request.messages = turns.data();
        request.n_messages = turns.size();
    }
};

/// Options as C has them; the options must stay.
struct Options {
    std::vector<const char *> stops;

    void ask(graft_generate_request &request, const GenerateOptions &options) {
        for (const std::string &stop : options.stops) stops.push_back(stop.c_str());
        request.max_tokens = options.max_tokens;
        request.sampling = &options.sampling;
        request.stops = stops.data();
        request.n_stops = stops.size();
        request.timeout_ms = options.timeout_ms;
        request.cancel = options.cancel != nullptr ? options.cancel->get() : nullptr;
    }
};
} // namespace detail

/// One timeline of tokens and images.
class Session : public detail::Owned<graft_session, graft_session_release> {
public:
    using Owned::Owned;
    static Outcome<Session> create(const Model &model, const SessionOptions &options = {}) {
        graft_session *session = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_session_create(model.get(), &options, &session, &error);
        return detail::finish(status, error, [&] { return Session(session); });
    }

    /// Another session with the same past.
    Outcome<Session> fork(const SessionOptions &options = {}) {
        graft_session *session = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_session_fork(get(), &options, &session, &error);
        return detail::finish(status, error, [&] { return Session(session); });
    }

    Outcome<SessionInfo> info() const {
        SessionInfo info;
        const graft_status status = graft_session_get_info(get(), &info);
        return detail::finish(status, nullptr, [&] { return info; });
    }

    Outcome<void> reset() {
        graft_error *error = nullptr;
        const graft_status status = graft_session_reset(get(), &error);
        return detail::finish(status, error);
    }

    Outcome<void> truncate(std::uint32_t positions) {
        graft_error *error = nullptr;
        const graft_status status = graft_session_truncate(get(), positions, &error);
        return detail::finish(status, error);
    }

    Outcome<void> feed(const std::vector<graft_token> &tokens, const Cancel &cancel = {}) {
        graft_error *error = nullptr;
        const graft_status status = graft_session_feed(get(), tokens.data(), tokens.size(), cancel.get(), &error);
        return detail::finish(status, error);
    }

    Outcome<void> feed(const Image &image, const Cancel &cancel = {}) {
        graft_error *error = nullptr;
        const graft_status status = graft_session_feed_image(get(), image.get(), cancel.get(), &error);
        return detail::finish(status, error);
    }

    /// The logits of what comes next.
    Outcome<std::vector<float>> logits(const Cancel &cancel = {}) {
        const float *logits = nullptr;
        std::size_t count = 0;
        graft_error *error = nullptr;
        const graft_status status = graft_session_logits(get(), cancel.get(), &logits, &count, &error);
        return detail::finish(status, error, [&] { return std::vector<float>(logits, logits + count); });
    }

    /// Replaces all adapters, or, if one does not fit, none; `flags` as GRAFT_SWAP_KEEP_HISTORY.
    Outcome<void> set_adapters(const std::vector<Binding> &adapters, std::uint32_t flags = 0) {
        const auto bindings = detail::bindings(adapters);
        graft_error *error = nullptr;
        const graft_status status =
            graft_session_set_adapters(get(), bindings.data(), bindings.size(), flags, &error);
        return detail::finish(status, error);
    }

    Outcome<void> set_adapter(const Adapter &adapter, float strength = 1.0f) {
        return set_adapters({Binding{adapter, strength}});
    }

    /// Answers a conversation, given whole each time; what it has in common with the session is not run again.
    /// `on_text(text)` gets the answer as it grows.
    template <class F>
    Outcome<GenerateResult> generate(const std::vector<Message> &messages, F on_text,
                                     const GenerateOptions &options = {}) {
        const detail::Turns turns(messages);
        Begun<graft_generate_request> request;
        turns.ask(request);
        return generate(request, std::move(on_text), options);
    }

    /// Answers one question.
    template <class F>
    Outcome<GenerateResult> generate(const std::string &question, F on_text, const GenerateOptions &options = {}) {
        return generate(std::vector<Message>{{"user", question, {}}}, std::move(on_text), options);
    }

    /// Whatever else a request may ask for; its sampling, stops, callbacks and the like come from `options`.
    template <class F>
    Outcome<GenerateResult> generate(graft_generate_request request, F on_text, const GenerateOptions &options) {
        struct Callbacks {
            F &text;
            detail::Caught caught;
        } callbacks{on_text, {}};
        detail::Options asked;
        asked.ask(request, options);
        request.userdata = &callbacks;
        request.on_text = [](void *userdata, const char *text, std::size_t length) {
            auto &callbacks = *static_cast<Callbacks *>(userdata);
            const std::string_view piece(text, length);
            return callbacks.caught.run([&] { return detail::goes_on(callbacks.text, piece); });
        };
        GenerateResult result;
        graft_error *error = nullptr;
        const graft_status status = graft_session_generate(get(), &request, &result, &error);
        return detail::finish(status, error, [&] { return result; }, &callbacks.caught);
    }
};

// -------------------------------------------------------------------------------------------------------- batches

using BatchOptions = Begun<graft_batch_options>;

/// What a session of a batch is fed: tokens, with GRAFT_TOKEN_IMAGE for each image.
struct BatchInput {
    Session *session;
    std::vector<graft_token> tokens;
    std::vector<Image> images;
};

/// What a session of a batch is asked: a conversation, or nothing, to go on with what it holds.
struct BatchRequest {
    Session *session;
    std::vector<Message> messages;
    GenerateOptions options;
};

/// Room in which sessions of one model run together.
class Batch : public detail::Owned<graft_batch, graft_batch_release> {
public:
    using Owned::Owned;
    static Outcome<Batch> create(const Model &model, const BatchOptions &options = {}) {
        graft_batch *batch = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_batch_create(model.get(), &options, &batch, &error);
        return detail::finish(status, error, [&] { return Batch(batch); });
    }

    Outcome<void> feed(const std::vector<BatchInput> &inputs, const Cancel &cancel = {}) {
        std::vector<graft_batch_input> given;
        std::vector<std::vector<graft_image *>> images(inputs.size());
        for (std::size_t i = 0; i < inputs.size(); i++) {
            for (const Image &image : inputs[i].images) images[i].push_back(image.get());
            Begun<graft_batch_input> input;
            input.session = inputs[i].session->get();
            input.tokens = inputs[i].tokens.data();
            input.n_tokens = inputs[i].tokens.size();
            input.images = images[i].data();
            input.n_images = images[i].size();
            given.push_back(input);
        }
        graft_error *error = nullptr;
        const graft_status status = graft_batch_feed(get(), given.data(), given.size(), cancel.get(), &error);
        return detail::finish(status, error);
    }

    /// The logits of what comes next in each session.
    Outcome<std::vector<std::vector<float>>> logits(const std::vector<Session *> &sessions, const Cancel &cancel = {}) {
        std::vector<graft_session *> given;
        for (const Session *session : sessions) given.push_back(session->get());
        const float *logits = nullptr;
        std::size_t count = 0;
        graft_error *error = nullptr;
        const graft_status status =
            graft_batch_logits(get(), given.data(), given.size(), cancel.get(), &logits, &count, &error);
        return detail::finish(status, error, [&] {
            std::vector<std::vector<float>> each;
            for (std::size_t i = 0; i < given.size(); i++) {
                each.emplace_back(logits + i * count, logits + (i + 1) * count);
            }
            return each;
        });
    }

    /// Answers all requests; `on_text(number, text)` gets each answer as it grows. `cancel` ends all of them.
    template <class F>
    Outcome<std::vector<GenerateResult>> generate(const std::vector<BatchRequest> &requests, F on_text,
                                                  const Cancel &cancel = {}) {
        struct Shared {
            F &text;
            detail::Caught caught;
        } shared{on_text, {}};
        struct One {
            Shared *shared;
            std::size_t number;
        };
        const std::size_t count = requests.size();
        std::vector<One> ones(count);
        std::vector<detail::Turns> turns;
        std::vector<detail::Options> options(count);
        std::vector<Begun<graft_generate_request>> asked(count);
        std::vector<GenerateResult> results(count);
        std::vector<graft_batch_request> given;
        for (const BatchRequest &request : requests) turns.emplace_back(request.messages);
        for (std::size_t i = 0; i < count; i++) {
            ones[i] = {&shared, i};
            turns[i].ask(asked[i]);
            options[i].ask(asked[i], requests[i].options);
            asked[i].userdata = &ones[i];
            asked[i].on_text = [](void *userdata, const char *text, std::size_t length) {
                auto &one = *static_cast<One *>(userdata);
                const std::string_view piece(text, length);
                // After an exception nobody else is told anything.
                if (one.shared->caught.exception) return std::int32_t(1);
                return one.shared->caught.run([&] { return detail::goes_on(one.shared->text, one.number, piece); });
            };
            Begun<graft_batch_request> request;
            request.session = requests[i].session->get();
            request.request = &asked[i];
            request.result = &results[i];
            given.push_back(request);
        }
        graft_error *error = nullptr;
        const graft_status status = graft_batch_generate(get(), given.data(), count, cancel.get(), &error);
        return detail::finish(status, error, [&] { return results; }, &shared.caught);
    }
};

// ------------------------------------------------------------------------------------------------------- training

using TrainOptions = Begun<graft_train_options>;
using TrainMetrics = Begun<graft_train_metrics>;
using Plan = Begun<graft_plan>;
using Event = Begun<graft_event>;

/// What a train callback answers.
enum class Train : std::int32_t { go_on = 0, pause = 1, end = 2 };

/// Training samples.
class Dataset : public detail::Shared<graft_dataset, graft_dataset_retain, graft_dataset_release> {
public:
    using Shared::Shared;
    /// LLaVA's JSON; images lie beside it unless a folder is named.
    static Outcome<Dataset> open(const std::string &path,
                                 const std::optional<std::string> &image_folder = std::nullopt) {
        graft_dataset *dataset = nullptr;
        graft_error *error = nullptr;
        const graft_status status =
            graft_dataset_open(path.c_str(), detail::text(image_folder), &dataset, &error);
        return detail::finish(status, error, [&] { return Dataset(dataset); });
    }

    Outcome<std::uint64_t> count() const {
        std::uint64_t count = 0;
        const graft_status status = graft_dataset_count(get(), &count);
        return detail::finish(status, nullptr, [&] { return count; });
    }

    /// A sample as JSON.
    Outcome<std::string> sample(std::uint64_t index) const {
        graft_buffer *json = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_dataset_sample(get(), index, &json, &error);
        return detail::finish(status, error, [&] { return detail::take(json); });
    }

    /// Looks at everything and calls `on_remark(remark)`; returns how many errors there are.
    template <class F> Outcome<std::uint64_t> check(const Model &model, F on_remark, const Cancel &cancel = {}) const {
        struct Callbacks {
            F &remark;
            detail::Caught caught;
        } callbacks{on_remark, {}};
        Begun<graft_dataset_check_options> options;
        options.model = model.get();
        options.cancel = cancel.get();
        std::uint64_t errors = 0;
        graft_error *error = nullptr;
        const graft_status status = graft_dataset_check(
            get(), &options,
            [](void *userdata, std::uint32_t severity, const char *code, const char *message, const char *json) {
                auto &callbacks = *static_cast<Callbacks *>(userdata);
                const Remark remark{severity, code, message, json != nullptr ? json : ""};
                return callbacks.caught.run([&] { return detail::goes_on(callbacks.remark, remark); });
            },
            &callbacks, &errors, &error);
        return detail::finish(status, error, [&] { return errors; }, &callbacks.caught);
    }
};

/// What a training will take, before it takes it.
inline Outcome<Plan> plan(const Model &model, const Dataset &data, const TrainOptions &options,
                          const Dataset &eval_data = {}) {
    Plan plan;
    graft_error *error = nullptr;
    const graft_status status =
        graft_plan_training(model.get(), data.get(), eval_data.get(), &options, &plan, nullptr, &error);
    return detail::finish(status, error, [&] { return plan; });
}

/// A call that runs in the background. It never calls the program: what happens waits as events.
class Job : public detail::Owned<graft_job, graft_job_release> {
public:
    using Owned::Owned;
    /// Whether it has ended within this time; throws what it failed with.
    Outcome<bool> wait(std::uint64_t timeout_ms = GRAFT_FOREVER) const {
        graft_error *error = nullptr;
        const graft_status status = graft_job_wait(get(), timeout_ms, &error);
        return detail::finish(status, error, [&] { return status != GRAFT_PENDING; });
    }

    /// The next event, if one comes within this time; its texts live until the next call. None after the last one.
    Outcome<std::optional<Event>> next_event(std::uint64_t timeout_ms = GRAFT_FOREVER) {
        Event event;
        const graft_status status = graft_job_next_event(get(), timeout_ms, &event);
        return detail::finish(status, nullptr, [&] {
            return status == GRAFT_OK ? std::optional<Event>(event) : std::nullopt;
        });
    }

    /// A descriptor that is readable while there are events.
    Outcome<std::intptr_t> event_fd() const {
        std::intptr_t fd = -1;
        graft_error *error = nullptr;
        const graft_status status = graft_job_event_fd(get(), &fd, &error);
        return detail::finish(status, error, [&] { return fd; });
    }

    void cancel() const noexcept { graft_job_cancel(get()); }
};

/// A training run.
class Trainer : public detail::Owned<graft_trainer, graft_trainer_release> {
public:
    using Owned::Owned;
    static Outcome<Trainer> create(const Model &model, const Dataset &data, const TrainOptions &options = {},
                                   const Dataset &eval_data = {}) {
        graft_trainer *trainer = nullptr;
        graft_error *error = nullptr;
        const graft_status status =
            graft_trainer_create(model.get(), data.get(), eval_data.get(), &options, &trainer, &error);
        return detail::finish(status, error, [&] { return Trainer(trainer); });
    }

    /// Does some updates; true when the run is over.
    Outcome<bool> step(std::uint64_t steps = 1, const Cancel &cancel = {}) {
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_step(get(), steps, cancel.get(), nullptr, &error);
        return detail::finish(status, error, [&] { return status == GRAFT_DONE; });
    }

    /// Trains to the end: true, or false when it was paused. `on_step(metrics)` is told after every update and answers
    /// with Train, or with nothing.
    template <class F> Outcome<bool> run(F on_step, const Cancel &cancel = {}) {
        struct Callbacks {
            F &step;
            detail::Caught caught;
        } callbacks{on_step, {}};
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_run(
            get(),
            [](void *userdata, const graft_train_metrics *metrics) {
                auto &callbacks = *static_cast<Callbacks *>(userdata);
                return callbacks.caught.run([&]() -> std::int32_t {
                    if constexpr (std::is_void_v<std::invoke_result_t<F &, const graft_train_metrics &>>) {
                        callbacks.step(*metrics);
                        return 0;
                    } else {
                        return static_cast<std::int32_t>(callbacks.step(*metrics));
                    }
                });
            },
            &callbacks, cancel.get(), &error);
        return detail::finish(status, error, [&] { return status == GRAFT_DONE; }, &callbacks.caught);
    }

    /// The same in the background; the trainer is busy until the job ends.
    Outcome<Job> start() {
        graft_job *job = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_start(get(), &job, &error);
        return detail::finish(status, error, [&] { return Job(job); });
    }

    /// From any thread: the run ends after its update.
    void pause() const noexcept { graft_trainer_pause(get()); }

    /// From any thread: where the run stands.
    Outcome<TrainMetrics> metrics() const {
        TrainMetrics metrics;
        const graft_status status = graft_trainer_metrics(get(), &metrics);
        return detail::finish(status, nullptr, [&] { return metrics; });
    }

    /// The mean loss on the evaluation data.
    Outcome<double> evaluate(const Cancel &cancel = {}) {
        double loss = 0;
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_evaluate(get(), cancel.get(), &loss, &error);
        return detail::finish(status, error, [&] { return loss; });
    }

    /// Saves a checkpoint, in the run folder unless a path is given, and returns where.
    Outcome<std::string> checkpoint(const std::optional<std::string> &path = std::nullopt) {
        graft_buffer *where = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_checkpoint(get(), detail::text(path), &where, &error);
        return detail::finish(status, error, [&] { return detail::take(where); });
    }

    /// Goes back, or on, to a checkpoint.
    Outcome<void> resume(const std::optional<std::string> &path = std::nullopt) {
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_resume(get(), detail::text(path), &error);
        return detail::finish(status, error);
    }

    /// What is learned so far, ready for sessions.
    Outcome<Adapter> adapter() {
        graft_adapter *adapter = nullptr;
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_adapter(get(), &adapter, &error);
        return detail::finish(status, error, [&] { return Adapter(adapter); });
    }

    Outcome<void> save(const std::string &path, const std::string &format = "gguf") {
        graft_error *error = nullptr;
        const graft_status status = graft_trainer_export(get(), path.c_str(), format.c_str(), &error);
        return detail::finish(status, error);
    }
};

// -------------------------------------------------------------------------------------------------------- plugins

using PluginOptions = Begun<graft_plugin_options>;
using PluginLimits = Begun<graft_plugin_limits>;
using ConvertReport = Begun<graft_convert_report>;

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
