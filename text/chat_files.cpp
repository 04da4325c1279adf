// Where releases keep their chat template and the spellings of BOS and EOS.

#include "base/error.h"
#include "text/text.h"

namespace sluice::text {
namespace {

constexpr std::string_view kTemplateKey = "chat_template";

// A template as text, or several as [{"name": .., "template": ..}].
std::optional<std::string> template_of(const format::Json& value, const std::string& file) {
  if (value.is_null()) return std::nullopt;
  const std::string subject = format::place_of(file, kTemplateKey);
  if (value.is_string()) return value.as_string(subject);
  std::string names;
  for (const format::Json& entry : value.as_array(subject)) {
    const std::string& name = entry.at("name", subject).as_string(subject + ": name");
    if (name == "default") return entry.at("template", subject).as_string(subject + ": template");
    names += (names.empty() ? "'" : ", '") + name + "'";
  }
  base::throw_malformed(
      subject, "expected a template named 'default', found " + (names.empty() ? std::string("none") : names));
}

std::optional<std::string> template_in(std::string_view text, const std::string& file) {
  if (text.empty()) return std::nullopt;
  const format::Json json = format::parse_json(text, file);
  const format::Json* value = json.find(kTemplateKey);
  return value == nullptr ? std::nullopt : template_of(*value, file);
}

}  // namespace

std::optional<std::string> find_chat_template(const ChatTemplateFiles& files) {
  if (!files.jinja.empty()) return std::string(files.jinja);
  if (auto text = template_in(files.tokenizer_config, "tokenizer_config.json")) return text;
  return template_in(files.json, "chat_template.json");
}

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
