#pragma once

#include <memory>

#include "text/text.h"

namespace sluice::tests {

enum class MistralVersion { v1, v3 };

/// A SentencePiece tokenizer with the pieces that the vectors of mistral-common's tests need, at the ids that
/// they have in Mistral's own tokenizers: version 1 (32,000 pieces), and versions 2 and 3 (32,768 pieces,
/// [INST] and [/INST] are control pieces), which share these ids.
[[nodiscard]] std::unique_ptr<text::Tokenizer> make_mistral_tokenizer(MistralVersion version);

}  // namespace sluice::tests
