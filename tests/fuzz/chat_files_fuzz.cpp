// tokenizer_config.json and generation_config.json from strangers: what is accepted is within its limits.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"
#include "format/hub/chat_files.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const std::string chat_template = format::pick_chat_template(text, "fuzz");
    INVARIANT(chat_template.size() <= 1u << 20 && base::is_utf8(chat_template));
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  try {
    const auto defaults = format::parse_generation_defaults(text, "fuzz");
    INVARIANT(defaults.temperature.value_or(0) >= 0 && defaults.top_p.value_or(0) <= 1);
    INVARIANT(defaults.top_k.value_or(0) <= 1u << 30 && defaults.min_p.value_or(0) <= 1);
  } catch (const base::Error& error) {
    INVARIANT(error.kind() == base::ErrorKind::malformed);
  }
  return 0;
}
