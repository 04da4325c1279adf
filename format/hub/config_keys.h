#pragma once
// What a key of config.json or params.json means for a model whose configuration has been read: nothing, or
// perhaps another computation. Fine-tunes carry keys of training programs and of loaders, which change
// nothing; keys of another mechanism must never be skipped. docs/checkpoints.md, "Unknown keys", has the
// rule.

#include <cstdint>
#include <string_view>

#include "format/json.h"

namespace sluice::format {

enum class KeyMeaning : std::uint8_t {
  harmless,        ///< known to change nothing, with this value
  unknown,         ///< not known, and its name says nothing of the computation
  changes_result,  ///< may change what the model computes
};

/// The meaning of a key that the reader of the parameters has no field for.
[[nodiscard]] KeyMeaning meaning_of(const Json::Member& member);

}  // namespace sluice::format
