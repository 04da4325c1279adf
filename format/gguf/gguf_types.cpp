#include "format/gguf/gguf_types.h"

#include <algorithm>
#include <array>

#include "base/invariant.h"

namespace sluice::format {
namespace {

// Numbers are never given out twice, so removed types keep theirs.
constexpr std::array<GgufType, 42> kTypes{{
    {0, "F32", DType::f32},
    {1, "F16", DType::f16},
    {2, "Q4_0", DType::q4_0},
    {3, "Q4_1", DType::q4_1},
    {4, "Q4_2", {}, true},
    {5, "Q4_3", {}, true},
    {6, "Q5_0", DType::q5_0},
    {7, "Q5_1", DType::q5_1},
    {8, "Q8_0", DType::q8_0},
    {9, "Q8_1"},
    {10, "Q2_K", DType::q2_k},
    {11, "Q3_K", DType::q3_k},
    {12, "Q4_K", DType::q4_k},
    {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL", DType::iq4_nl},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS", DType::iq4_xs},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {30, "BF16", DType::bf16},
    {31, "Q4_0_4_4", {}, true},
    {32, "Q4_0_4_8", {}, true},
    {33, "Q4_0_8_8", {}, true},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {36, "IQ4_NL_4_4", {}, true},
    {37, "IQ4_NL_4_8", {}, true},
    {38, "IQ4_NL_8_8", {}, true},
    {39, "MXFP4", DType::mxfp4},
    {40, "NVFP4"},
    {41, "Q1_0"},
}};

constexpr std::string_view kAdvice =
    ": convert the released weights, or a GGUF file of a type from Q2_K to Q8_0, IQ4_NL, IQ4_XS, MXFP4, F16, "
    "BF16 or F32";

}  // namespace

const GgufType* find_gguf_type(std::uint32_t number) {
  const auto found = std::ranges::find(kTypes, number, &GgufType::number);
  return found == kTypes.end() ? nullptr : &*found;
}

std::string_view gguf_name(DType dtype) {
  const auto found = std::ranges::find(kTypes, std::optional(dtype), &GgufType::dtype);
  INVARIANT(found != kTypes.end());
  return found->name;
}

std::string describe_unread_type(std::uint32_t number) {
  const GgufType* type = find_gguf_type(number);
  if (type == nullptr) {
    return "has the type " + std::to_string(number) + ", which is not known" + std::string(kAdvice);
  }
  return "has the type " + std::string(type->name) +
         (type->removed ? ", which ggml itself has removed" : ", which is not supported") +
         std::string(kAdvice);
}

}  // namespace sluice::format
