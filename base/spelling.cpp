#include "base/spelling.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/ascii.h"

namespace sluice::base {
namespace {

// Empty unless exactly one name begins with `start`.
std::string only_completion(std::string_view start, std::span<const std::string> names) {
  constexpr std::size_t kStartMin = 4;  // "--t" begins many names
  if (start.size() < kStartMin) return {};
  const auto begins = [&](const std::string& name) { return name.starts_with(start); };
  if (std::ranges::count_if(names, begins) != 1) return {};
  return *std::ranges::find_if(names, begins);
}

/// The bits in the name of a type: 4 for "q4" and "iq4_xs", 16 for "bf16"; 0 when it is no such name.
unsigned bits_in_name(std::string_view lower_case) {
  const std::size_t digit = lower_case.find_first_of("0123456789");
  if (digit == std::string_view::npos) return 0;
  constexpr std::array<std::string_view, 9> kBegins = {"", "q", "iq", "f", "fp", "bf", "int", "mxfp", "tq"};
  if (std::ranges::find(kBegins, lower_case.substr(0, digit)) == kBegins.end()) return 0;
  unsigned bits = 0;
  const std::string_view digits = lower_case.substr(digit);
  std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  return bits;
}

// One wrong letter in three, at most three: more would suggest names that have nothing in common. Dashes do
// not count as letters.
std::size_t allowed_distance(const std::string& name) {
  const std::size_t letters = name.size() - std::min(name.find_first_not_of('-'), name.size());
  return std::clamp<std::size_t>(letters / 3, 1, 3);
}

}  // namespace

/// Computes the Levenshtein distance with one row of its table: row[j] is the distance between the first i
/// letters of a and the first j of b.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1] ? 1 : 0)});
      diagonal = above;
    }
  }
  return row.back();
}

std::string nearest_name(std::string_view misspelt, std::span<const std::string> names) {
  if (auto completed = only_completion(misspelt, names); !completed.empty()) return completed;
  std::string best;
  std::size_t best_distance = misspelt.size();
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(misspelt, name);
    if (distance <= allowed_distance(name) && distance < best_distance) {
      best_distance = distance;
      best = name;
    }
  }
  return best;
}

std::string nearest_choice(std::string_view text, std::span<const std::string> choices) {
  std::string lower_case(text);
  std::ranges::transform(lower_case, lower_case.begin(), [](char c) { return to_lower(c); });
  if (std::ranges::find(choices, lower_case) != choices.end()) return lower_case;
  if (const unsigned bits = bits_in_name(lower_case); bits > 0) {
    // The type with more bits wins a tie, because it keeps the precision that the user asked for.
    const auto distance = [&](const std::string& choice) {
      const unsigned own = bits_in_name(choice);
      return own == 0 ? ~0u : 2 * (own > bits ? own - bits : bits - own) + (own > bits ? 0 : 1);
    };
    const auto nearest = std::ranges::min_element(choices, {}, distance);
    if (nearest != choices.end() && distance(*nearest) != ~0u) return *nearest;
  }
  return nearest_name(lower_case, choices);
}

std::vector<std::string> nearest_names(std::string_view misspelt, std::span<const std::string> names) {
  constexpr std::size_t kNamesMax = 3;
  constexpr std::size_t kStartMin = 3;  // "m" begins many names
  std::vector<std::pair<std::size_t, std::string>> near;
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(misspelt, name);
    if (misspelt.size() >= kStartMin && name.starts_with(misspelt)) {
      near.emplace_back(0, name);
    } else if (distance <= allowed_distance(name) && distance < misspelt.size()) {
      near.emplace_back(distance, name);
    }
  }
  std::ranges::sort(near);
  std::vector<std::string> best;
  for (auto& [distance, name] : near) {
    // When one name is clearly the nearest, the others only distract.
    if (distance <= near.front().first + 1 && best.size() < kNamesMax &&
        std::ranges::find(best, name) == best.end())
      best.push_back(std::move(name));
  }
  return best;
}

std::string did_you_mean(std::span<const std::string> names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "; did you mean " : i + 1 == names.size() ? " or " : ", ") + names[i];
  return text.empty() ? text : text + "?";
}

std::string did_you_mean(std::string_view name) {
  return name.empty() ? std::string() : "; did you mean " + std::string(name) + "?";
}

}  // namespace sluice::base
