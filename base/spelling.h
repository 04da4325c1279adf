#pragma once
// Suggestions for misspelt names.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::base {

/// Levenshtein distance: insertions, deletions and substitutions cost one each.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// The name nearest to a misspelt one: the only one that begins with it, else the nearest one that differs in
/// at most a third of its letters. Empty when nothing is near.
[[nodiscard]] std::string nearest_name(std::string_view misspelt, std::span<const std::string> names);

/// The nearest of an option's values: another spelling of one, or for a quantization of llama.cpp ("Q4_K_M",
/// "f16") the type with the nearest number of bits a weight. Empty when nothing is near.
[[nodiscard]] std::string nearest_choice(std::string_view text, std::span<const std::string> choices);

/// At most three names that may have been meant, the likeliest first: those that begin with the misspelt one,
/// then those that differ in at most a third of their letters.
[[nodiscard]] std::vector<std::string> nearest_names(std::string_view misspelt,
                                                     std::span<const std::string> names);

/// "; did you mean X, Y or Z?", or nothing for no names.
[[nodiscard]] std::string did_you_mean(std::span<const std::string> names);

/// "; did you mean X?", or nothing for an empty name.
[[nodiscard]] std::string did_you_mean(std::string_view name);

}  // namespace sluice::base
