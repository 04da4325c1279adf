#pragma once
// Sizes, rates and durations as people write them, and checks of UTF-8 text.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::base {

/// "512MiB", "64k", "10M/s", "1.5GB", "1234" -> bytes (or bytes a second). K, M, G, T and KiB, MiB, ...
/// are powers of 1024; KB, MB, GB, TB powers of 1000. Nothing for any other text.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(std::string_view text);

/// "90s", "5m", "1h30m", "1d", "0.5h" -> seconds; a number without a unit counts in units of `plain_unit_s`.
/// Units d, h, m or min, s, from the largest to the smallest. Nothing for any other text, and for more than
/// kDurationMax_s.
[[nodiscard]] std::optional<double> parse_duration(std::string_view text, double plain_unit_s);
constexpr double kDurationMax_s = 1e9;  // 31 years

/// As parse_duration() reads it: 600 -> "10m", 5400 -> "1h30m", 90 -> "1m30s", 0.5 -> "0.5s".
[[nodiscard]] std::string to_duration_text(double seconds);

/// 1536 -> "1.5 KiB". For text output; JSON output has plain numbers.
[[nodiscard]] std::string to_human_bytes(std::uint64_t bytes);

/// 75.2 -> "1:15", 3725 -> "1:02:05".
[[nodiscard]] std::string to_human_seconds(double seconds);

/// 1, "tracker" -> "1 tracker"; 2, "tracker" -> "2 trackers".
[[nodiscard]] std::string to_counted(std::uint64_t count, std::string_view noun);

/// The length in bytes of the UTF-8 character at the start of `text`; 0 when it is malformed (Unicode 15,
/// table 3-7: no overlong forms, no surrogates), -1 when `text` ends within it.
[[nodiscard]] int utf8_length(std::string_view text);

[[nodiscard]] bool is_utf8(std::string_view text);

/// The code point of one well-formed UTF-8 character.
[[nodiscard]] char32_t decode_utf8(std::string_view character);

/// True for characters that control a terminal or make text look different from its content: the controls C0,
/// DEL and C1, the marks that change the direction of writing (Unicode UAX #9), and the byte order mark.
[[nodiscard]] bool is_deceptive(char32_t code_point);

/// Replaces deceptive characters and malformed UTF-8 by U+FFFD, so that text from a file or the network can
/// be printed on a terminal.
[[nodiscard]] std::string to_printable(std::string_view text);

}  // namespace sluice::base
