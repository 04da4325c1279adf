#pragma once
// Suggestions for misspelt names.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace sluice::cli {

/// Levenshtein distance: insertions, deletions and substitutions cost one each.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// The name nearest to a misspelt one: the only one that begins with it, else the nearest one that differs in
/// at most a third of its letters. Empty when nothing is near.
[[nodiscard]] std::string nearest_name(std::string_view misspelt, std::span<const std::string> names);

/// "; did you mean X?", or nothing for an empty name.
[[nodiscard]] std::string did_you_mean(std::string_view name);

}  // namespace sluice::cli
