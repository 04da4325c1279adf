#pragma once
// A verify::Report for people and as JSON lines.

#include "cli/console.h"
#include "verify/verify.h"

namespace sluice::cli {

/// One event or line a file, damaged ranges with the tensors they touch below it. With --quiet only files
/// that are not ok.
void tell_files(const verify::Report& report, Console& console);

/// What is about to be repaired: as tell_files, of files that are not ok, and events named "damage", since
/// scripts take "file" for how things are in the end.
void tell_damage(const verify::Report& report, Console& console);

/// {"ok":..,"files":..,"bytes":..,"damaged_bytes":..,"proven_by":[..],"seconds":..} with event "result".
[[nodiscard]] format::Json report_result(const verify::Report& report, double seconds);

/// "3 files, 27.4 MiB: all proven by v1, v2 and sha256", or what is wrong.
[[nodiscard]] std::string report_summary(const verify::Report& report);

}  // namespace sluice::cli
