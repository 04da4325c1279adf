#pragma once
// The results of verifying, for people and as JSON lines.

#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "cli/console.h"
#include "format/json.h"
#include "library/library.h"
#include "verify/verify.h"

namespace sluice::cli {

/// A digest in hexadecimal; null when it is not known.
template <typename D>
[[nodiscard]] format::Json hex_or_null(const std::optional<D>& digest) {
  return digest ? format::Json(base::to_hex(*digest)) : format::Json(nullptr);
}

/// A line that begins with a mark in its colour: = verified, * damaged, - missing, ! unreadable, + not part
/// of the release, ? unproven, ~ changed.
[[nodiscard]] StyledText marked(char mark, std::string_view text);

/// One event or one line for each file, followed by its damaged ranges with the tensors that they touch. With
/// --quiet only files that are not ok.
void print_files(const verify::Report& report, Console& console);

/// The files that a repair is about to write. Their events are named "damage", because scripts take "file"
/// for the final state.
void print_damage(const verify::Report& report, Console& console);

/// {"ok":..,"files":..,"bytes":..,"damaged_bytes":..,"proven_by":[..],"seconds":..} with event "result".
[[nodiscard]] format::Json result_json(const verify::Report& report, double seconds);

[[nodiscard]] format::Json signature_json(const library::SignatureReport& report);

/// "= release: stories-moe, infohash_v1 ..: as in ..", one line a link.
void print_chain(const std::vector<verify::ChainLink>& chain, Console& console);
/// [{"link":..,"state":"=","detail":..}]
[[nodiscard]] format::Json chain_json(const std::vector<verify::ChainLink>& chain);

}  // namespace sluice::cli
