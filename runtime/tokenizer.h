#pragma once
// The only place where SentencePiece's types appear.

#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "runtime/runtime.h"

namespace sluice::runtime {

/// From the bytes of a tokenizer.model. Error{malformed} naming `subject` when they are none.
[[nodiscard]] std::unique_ptr<Tokenizer> make_tokenizer(base::Bytes model, std::string_view subject);

}  // namespace sluice::runtime
