#pragma once
// Text from standard input, for `run` and `eval`.

#include <cstdint>
#include <stop_token>
#include <string>

namespace sluice::cli {

/// True when standard input is a pipe or a file, so that reading it waits for no person. False for a
/// terminal, a device such as /dev/null, and a closed descriptor.
[[nodiscard]] bool has_piped_input();

/// Reads to the end. A stop request ends the wait with Error{interrupted}; more than `bytes_max` are
/// Error{malformed}.
[[nodiscard]] std::string read_standard_input(std::uint64_t bytes_max, const std::stop_token& stop);

}  // namespace sluice::cli
