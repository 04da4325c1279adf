#pragma once
// The checks of a conversion that need neither the weights nor much time: they come before the first weight
// is read, so that nobody waits for hours to learn that the result cannot run or does not fit.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "convert/tensor_block.h"
#include "format/released_model.h"

namespace sluice::convert {

/// Opens the tokenizer as `run` does. Error{malformed} naming its file, what was expected and what was found,
/// when it is none, or when it has more tokens than the embedding has rows. Returns the number of rows that
/// no token uses: many models pad their vocabulary.
std::uint64_t require_usable_tokenizer(const format::ReleasedModel& release);

/// Why `run --chat` cannot use the release's chat template; empty when it can, or when there is none.
[[nodiscard]] std::string chat_template_problem(const format::ReleasedModel& release);

/// Upper bound of the size of the container, in bytes, close enough for a comparison with the free space.
[[nodiscard]] std::uint64_t container_bytes(const format::ReleasedModel& release,
                                            std::span<const TensorJob> jobs);

/// Error{no_space} when the file system of `output` has less free space than the container needs. The blocks
/// of the part file that an earlier run has left count as there. Returns the free bytes; nothing where the
/// system does not tell them.
std::optional<std::uint64_t> require_space(const std::filesystem::path& output, std::uint64_t needed_bytes);

}  // namespace sluice::convert
