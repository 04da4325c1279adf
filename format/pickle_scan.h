#pragma once
// Describes what loading a pickle with Python would execute, without executing it: the scan walks over the
// opcodes of all protocols (0 to 5) with a stack and a memo of descriptions, and records every import, call
// and change of state that a plain state dict does not have.
//
// Unlike read_state_dict it does not stop at the first forbidden opcode: it continues to STOP, to the end of
// the bytes, or to an opcode that no protocol has, where Python would stop, too. Steps and memory are
// bounded; a scan that reaches a bound gives up and says so: what follows is not known to be harmless. The
// opcodes are those of Python's pickletools (PEP 307, 3154, 574).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::format {

struct PickleAct {
  std::uint64_t offset_bytes = 0;  ///< of the opcode
  std::string what;                ///< "call os.system at offset 23 with ('rm -rf /')"
};

struct PickleScan {
  std::vector<PickleAct> acts;  ///< the first 64, in order of their offset
  std::uint64_t act_count = 0;  ///< all acts, including those that are not listed
  std::string problem;          ///< why the scan ended before STOP; empty when it reached STOP
  std::uint64_t end_bytes = 0;  ///< the offset at which the scan ended: behind STOP
  bool gave_up = false;         ///< the scan ended at a bound, where Python would go on
  /// Some import has proper names of a module and a global, which payload that only looks like a pickle has
  /// not.
  bool has_named_import = false;

  /// The pickle was read to its end.
  [[nodiscard]] bool is_complete() const { return problem.empty(); }
};

/// Scans the pickle that begins at `start`; offsets count from the start of `bytes`. No content makes it
/// throw.
[[nodiscard]] PickleScan scan_pickle(base::Bytes bytes, std::size_t start = 0);

/// "would call os.system at offset 23 with ('rm -rf /'), and import builtins.eval at offset 40", or "would
/// execute nothing". One line of printable characters.
[[nodiscard]] std::string to_sentence(const PickleScan& scan);

}  // namespace sluice::format
