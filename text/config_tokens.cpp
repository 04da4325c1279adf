#include "base/error.h"
#include "text/text.h"

namespace sluice::text {

std::optional<std::string> config_token_text(std::string_view tokenizer_config, std::string_view key) {
  if (tokenizer_config.empty()) return std::nullopt;
  const std::string file = "tokenizer_config.json";
  const format::Json json = format::parse_json(tokenizer_config, file);
  const format::Json* value = json.find(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  const std::string subject = format::place_of(file, key);
  if (value->is_object()) return value->at("content", subject).as_string(subject + ": content");
  return value->as_string(subject);
}

}  // namespace sluice::text
