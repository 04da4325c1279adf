// params.json and config.json from strangers, of every family.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "format/hub/family_config.h"
#include "format/mistral_params.h"

using namespace sluice;

namespace {

void read_mistral(std::string_view text) {
  try {
    const format::MistralParams params = format::parse_params(text, "fuzz");
    // What was accepted can be written, and reads back as the same.
    INVARIANT(format::parse_params(format::to_json(params).dump(), "again") == params);
    INVARIANT(params.n_heads % params.n_kv_heads == 0);
    INVARIANT(params.num_experts_per_tok <= params.num_experts);
    INVARIANT((params.num_experts == 0) == (params.num_experts_per_tok == 0));
    // It has a description, which says exactly this.
    const format::ModelDescription description = format::describe(params);
    format::validate(description, "described");
    INVARIANT(format::mistral_params(description) == params);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
}

void read_family(std::string_view text) {
  try {
    const format::ModelConfig config = format::parse_model_config(text, "fuzz");
    // It is within its bounds, and has one text.
    format::validate(config.description, "described");
    INVARIANT(format::description_from_json(format::to_json(config.description), "again") ==
              config.description);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read_mistral(text);
  read_family(text);
  return 0;
}
