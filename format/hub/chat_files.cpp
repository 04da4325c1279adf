#include "format/hub/chat_files.h"

#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "format/json.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kConfigBytesMax = 32u << 20;   // lists of added tokens make some of them large
constexpr std::uint64_t kTemplateBytesMax = 1u << 20;  // released ones have up to 17 KB
constexpr std::uint64_t kTopKMax = 1u << 30;

/// Empty when the folder has no such file.
std::string read_optional(const fs::path& path, std::uint64_t bytes_max) {
  std::error_code absent;
  return fs::is_regular_file(path, absent) ? base::read_text_file(path, bytes_max) : std::string();
}

/// Reads a file that must be a JSON object in the same way.
std::string read_object(const fs::path& path) {
  std::string text = read_optional(path, kConfigBytesMax);
  if (!text.empty()) static_cast<void>(parse_json(text, path.string()).as_object(path.string()));
  return text;
}

std::string read_chat_template(const fs::path& folder, const std::string& tokenizer_config) {
  const fs::path own = folder / "chat_template.jinja";
  if (std::string text = read_optional(own, kTemplateBytesMax); !text.empty()) {
    require_chat_template(text, own.string());
    return text;
  }
  std::string text = pick_chat_template(tokenizer_config, (folder / "tokenizer_config.json").string());
  if (!text.empty()) return text;
  // {"chat_template": "..."}: what transformers wrote beside models that read images.
  const fs::path json = folder / "chat_template.json";
  return pick_chat_template(read_object(json), json.string());
}

/// Sets `value` when the object has the key with a number between the bounds; null counts as none.
void read_number(const Json& config, std::string_view key, double low, double high, std::string_view subject,
                 std::optional<double>& value) {
  const Json* found = config.find(key);
  if (found == nullptr || found->is_null()) return;
  value = found->as_double(place_of(subject, key));
  require_between(*value, low, high, key, subject);
}

}  // namespace

void require_chat_template(std::string_view text, std::string_view subject) {
  if (text.size() > kTemplateBytesMax)
    base::throw_malformed(subject,
                          "has " + std::to_string(text.size()) + " bytes, at most 1 MiB is supported");
  if (!base::is_utf8(text)) base::throw_malformed(subject, "is not UTF-8");
}

ChatFiles read_chat_files(const fs::path& folder) {
  ChatFiles files;
  files.tokenizer_config = read_object(folder / "tokenizer_config.json");
  files.generation_config = read_object(folder / "generation_config.json");
  static_cast<void>(
      parse_generation_defaults(files.generation_config, (folder / "generation_config.json").string()));
  files.chat_template = read_chat_template(folder, files.tokenizer_config);
  return files;
}

std::string pick_chat_template(std::string_view tokenizer_config, std::string_view subject) {
  if (tokenizer_config.empty()) return {};
  const Json config = parse_json(tokenizer_config, subject);
  const Json* value = config.find("chat_template");
  if (value == nullptr || value->is_null()) return {};
  const std::string where = place_of(subject, "chat_template");
  if (value->is_array()) {
    const Json* picked = nullptr;
    const auto& list = value->as_array(where);
    for (const Json& item : list)
      if (item.at("name", where).as_string(where) == "default") picked = &item;
    if (picked == nullptr && list.size() == 1) picked = &list.front();
    if (picked == nullptr) return {};
    value = &picked->at("template", where);
  }
  const std::string& text = value->as_string(where);
  require_chat_template(text, where);
  return text;
}

GenerationDefaults parse_generation_defaults(std::string_view text, std::string_view subject) {
  GenerationDefaults defaults;
  if (text.empty()) return defaults;
  const Json config = parse_json(text, subject);
  static_cast<void>(config.as_object(subject));
  // The bounds are those of the options of `run`.
  read_number(config, "temperature", 0, 100, subject, defaults.temperature);
  read_number(config, "top_p", 0, 1, subject, defaults.top_p);
  read_number(config, "min_p", 0, 1, subject, defaults.min_p);
  read_number(config, "repetition_penalty", 0.01, 100, subject, defaults.repetition_penalty);
  // -1 keeps all tokens in vLLM, 0 in transformers.
  const Json* top_k = config.find("top_k");
  if (top_k != nullptr && !top_k->is_null()) {
    const std::string where = place_of(subject, "top_k");
    const std::int64_t count = top_k->as_int(where);
    if (count > static_cast<std::int64_t>(kTopKMax) || count < -1)
      base::throw_malformed(where, "is " + std::to_string(count) + ", expected -1 to 2^30");
    defaults.top_k = count < 0 ? 0 : static_cast<std::uint64_t>(count);
  }
  return defaults;
}

}  // namespace sluice::format
