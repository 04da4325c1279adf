// params.json from strangers.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/mistral_params.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const format::MistralParams params = format::parse_params(text, "fuzz");
    // What was accepted can be written, and reads back as the same.
    INVARIANT(format::parse_params(format::to_json(params).dump(), "again") == params);
    INVARIANT(params.n_heads % params.n_kv_heads == 0);
    INVARIANT(params.num_experts_per_tok <= params.num_experts);
    INVARIANT((params.num_experts == 0) == (params.num_experts_per_tok == 0));
    // It has a description, which says exactly this, and has one text.
    const format::ModelDescription description = format::describe(params);
    format::validate(description, "described");
    INVARIANT(format::mistral_params(description) == params);
    INVARIANT(format::description_from_json(format::to_json(description), "again") == description);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
