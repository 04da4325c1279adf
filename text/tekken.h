#pragma once

#include <memory>
#include <string_view>

#include "text/text.h"

namespace sluice::text {

/// Tokenizer of a tekken.json; see make_tokenizer().
[[nodiscard]] std::unique_ptr<Tokenizer> make_tekken_tokenizer(const TokenizerBundle& bundle,
                                                               std::string_view subject);

}  // namespace sluice::text
