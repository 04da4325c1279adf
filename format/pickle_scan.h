#pragma once
// What a pickle would do to whoever loads it with Python, in words. Nothing of it is done: the scan walks
// over the opcodes of all protocols (0 to 5) with a stack and a memo of descriptions, and writes down every
// import, call and change of state that is not one of a plain state dict's.
//
// Unlike read_state_dict it does not stop at what it dislikes: it goes on to STOP, to the end, or to an
// opcode that no protocol has, where Python would stop as well. It takes a bounded number of steps
// and a bounded amount of memory; what is past a bound is said to be so. The opcodes are those of Python's
// pickletools (PEP 307, 3154, 574).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace sluice::format {

struct PickleAct {
  std::uint64_t offset_bytes = 0;  ///< of the opcode that does it
  std::string what;                ///< "call os.system at offset 23 with ('rm -rf /')"
};

struct PickleScan {
  std::vector<PickleAct> acts;  ///< in order of their offset; the first 64
  std::uint64_t act_count = 0;  ///< with those that are not listed
  std::string problem;          ///< why the scan ended before STOP; empty when it did not
  std::uint64_t end_bytes = 0;  ///< where it ended: behind STOP
};

/// The pickle that begins at `start`, in front of which offsets go on counting. Never throws on account of
/// the bytes.
[[nodiscard]] PickleScan scan_pickle(base::Bytes bytes, std::size_t start = 0);

/// "would call os.system at offset 23 with ('rm -rf /'), and import builtins.eval at offset 40": "would
/// execute nothing" when there is nothing to tell. One line, fit for a terminal.
[[nodiscard]] std::string to_sentence(const PickleScan& scan);

}  // namespace sluice::format
