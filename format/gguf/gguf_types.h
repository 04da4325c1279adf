#pragma once
// The element types of GGUF files: all numbers that ggml has or had (ggml.h, enum ggml_type), and which of
// them Sluice reads. A type that is not read is refused by its name.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "format/tensor.h"

namespace sluice::format {

struct GgufType {
  std::uint32_t number = 0;
  std::string_view name;            ///< as llama.cpp prints it: "Q4_K"
  std::optional<DType> dtype = {};  ///< nothing: the type is not read
  bool removed = false;             ///< current versions of ggml do not have the type any longer
};

/// The type of a number; nullptr for a number that ggml has not given out.
[[nodiscard]] const GgufType* find_gguf_type(std::uint32_t number);

/// The name of a type that is read ("Q4_K"). Not for dtypes that GGUF does not have.
[[nodiscard]] std::string_view gguf_name(DType dtype);

/// Why a type is not read and what to do, to follow "tensor 'x': ": "has the type IQ2_XXS, which ...".
[[nodiscard]] std::string describe_unread_type(std::uint32_t number);

}  // namespace sluice::format
