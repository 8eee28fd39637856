#include "driver.h"

#include <stdexcept>

namespace driver {

Talk::Talk(const std::string &model) : model_(graft::Model::open(model)), session_(graft::Session::create(model_)) {}

rust::String Talk::fingerprint() const { return model_.info().fingerprint; }

std::uint32_t Talk::positions() const { return session_.info().n_positions; }

rust::String Talk::ask(rust::Str question, std::uint32_t tokens, std::uint32_t most) {
    std::string answer;
    std::uint32_t pieces = 0;
    graft::GenerateOptions options;
    options.max_tokens = tokens;
    session_.generate(
        std::string(question),
        [&](std::string_view text) {
            answer += text;
            return most == 0 || ++pieces < most;
        },
        options);
    return answer;
}

void Talk::fail(rust::Str question) {
    session_.generate(std::string(question), [](std::string_view) { throw std::out_of_range("thrown by a callback"); });
}

std::unique_ptr<Talk> open(rust::Str model) { return std::make_unique<Talk>(std::string(model)); }

} // namespace driver
