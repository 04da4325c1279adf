#pragma once
// The globals that a plain state dict names: read_state_dict accepts them, and scan_pickle does not report
// them. This is an allow-list, because a list of forbidden globals would never be complete.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "format/tensor.h"

namespace sluice::format {

enum class PickleTag : std::uint8_t { ordered_dict, rebuild_tensor, rebuild_parameter, storage };

struct PickleGlobal {
  std::string_view module;
  std::string_view name;
  PickleTag tag = PickleTag::storage;
  DType dtype = DType::f32;  ///< element type, for a storage
};

constexpr std::array<PickleGlobal, 13> kPickleGlobals{{
    {"collections", "OrderedDict", PickleTag::ordered_dict},
    {"torch._utils", "_rebuild_tensor_v2", PickleTag::rebuild_tensor},
    {"torch._utils", "_rebuild_parameter", PickleTag::rebuild_parameter},
    {"torch", "DoubleStorage", PickleTag::storage, DType::f64},
    {"torch", "FloatStorage", PickleTag::storage, DType::f32},
    {"torch", "HalfStorage", PickleTag::storage, DType::f16},
    {"torch", "BFloat16Storage", PickleTag::storage, DType::bf16},
    {"torch", "LongStorage", PickleTag::storage, DType::i64},
    {"torch", "IntStorage", PickleTag::storage, DType::i32},
    {"torch", "ShortStorage", PickleTag::storage, DType::i16},
    {"torch", "CharStorage", PickleTag::storage, DType::i8},
    {"torch", "ByteStorage", PickleTag::storage, DType::u8},
    {"torch", "BoolStorage", PickleTag::storage, DType::boolean},
}};

/// Null for a global that is not in the list.
[[nodiscard]] inline const PickleGlobal* find_plain_global(std::string_view module, std::string_view name) {
  const auto found = std::ranges::find_if(kPickleGlobals, [&](const PickleGlobal& global) {
    return global.module == module && global.name == name;
  });
  return found == kPickleGlobals.end() ? nullptr : &*found;
}

[[nodiscard]] inline bool is_plain_global(std::string_view module, std::string_view name) {
  return find_plain_global(module, name) != nullptr;
}

}  // namespace sluice::format
