// A conversation through graft.hpp, in the words that cxx passes.
#pragma once

#include <memory>

#include <graft.hpp>

#include "rust/cxx.h"

namespace driver {

/// A model with one session.
class Talk {
public:
    explicit Talk(const std::string &model);
    rust::String fingerprint() const;
    std::uint32_t positions() const;
    /// Answers, stops after `most` pieces of text (0: never), and throws what a callback throws.
    rust::String ask(rust::Str question, std::uint32_t tokens, std::uint32_t most);
    void fail(rust::Str question);

private:
    graft::Model model_;
    graft::Session session_;
};

std::unique_ptr<Talk> open(rust::Str model);

} // namespace driver
