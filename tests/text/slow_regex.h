#pragma once
// A backtracking engine for the regular expressions of released pre-tokenizers, written for clearness: the
// slow twin of text/pre_tokenizer.cpp. Knows alternatives, groups (also with (?i: and (?:), classes with
// ranges and \p{..}, the escapes \s \S \r \n, the repetitions ? * + {1,3}, and (?!\S).

#include <string>
#include <string_view>
#include <vector>

namespace sluice::tests {

/// The pieces into which a Split with the behavior Isolated cuts UTF-8 text.
[[nodiscard]] std::vector<std::string> slow_split(std::string_view expression, std::string_view text);

}  // namespace sluice::tests
