#include "convert/release_files.h"

#include <array>
#include <string>
#include <system_error>

#include "base/file.h"
#include "base/hasher.h"
#include "format/hub/token_facts.h"
#include "format/json.h"
#include "format/sentencepiece_model.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;
using format::Json;

constexpr std::array<std::string_view, 6> kNames = {
    "tokenizer.model",       "tokenizer.json",         "tekken.json",
    "tokenizer_config.json", "generation_config.json", "chat_template.jinja"};

/// Returns the facts that a reader of the exported folder learns of the tokens.
format::TokenFacts facts_in(const fs::path& folder, const format::TokenizerParts& tokenizer,
                            std::uint64_t vocabulary) {
  if (tokenizer.kind != format::TokenizerKind::sentencepiece) return format::read_end_ids(folder, vocabulary);
  return format::read_token_facts(folder, format::parse_sentencepiece(tokenizer.model, "tokenizer.model"),
                                  vocabulary);
}

Json parse_or_empty(const std::string& text, std::string_view name) {
  return text.empty() ? Json::object() : format::parse_json(text, name);
}

/// The released tokenizer_config.json with all added tokens.
std::string with_added_tokens(const std::string& config, const format::TokenFacts& facts) {
  Json json = parse_or_empty(config, "tokenizer_config.json");
  const Json* released = json.find("added_tokens_decoder");
  Json decoder = released != nullptr && released->is_object() ? *released : Json::object();
  for (const format::AddedToken& token : facts.added) {
    const std::string id = std::to_string(token.id);
    if (decoder.find(id) == nullptr)
      decoder.set(id, Json::object({{"content", token.text}, {"special", token.control}}));
  }
  json.set("added_tokens_decoder", std::move(decoder));
  return json.dump_pretty();
}

/// The released generation_config.json with all end ids.
std::string with_end_ids(const std::string& config, const format::TokenFacts& facts) {
  Json json = parse_or_empty(config, "generation_config.json");
  json.set("eos_token_id", Json::array_of(facts.end_ids));
  return json.dump_pretty();
}

void write_or_remove(const fs::path& path, const std::string& text) {
  std::error_code absent;
  if (text.empty()) {
    fs::remove(path, absent);
  } else {
    base::write_file(path, base::as_bytes(text));
  }
}

}  // namespace

ExportedFile write_side_file(const fs::path& path, base::Bytes bytes) {
  base::write_file(path, bytes);
  return {path, bytes.size(), base::hash<base::Sha256>(bytes)};
}

std::span<const std::string_view> release_file_names() { return kNames; }

void write_release_files(const ModelRows& model, const fs::path& folder, ExportResult& result) {
  const format::TokenizerParts tokenizer = model.tokenizer();
  format::ChatFiles chat = model.chat_files();
  std::error_code absent;
  for (const std::string_view name : kNames) fs::remove(folder / name, absent);
  base::write_file(folder / format::file_name(tokenizer.kind), tokenizer.model);
  write_or_remove(folder / "chat_template.jinja", chat.chat_template);
  write_or_remove(folder / "tokenizer_config.json", chat.tokenizer_config);
  write_or_remove(folder / "generation_config.json", chat.generation_config);
  // The released files stay as they are, unless a file that is not exported (config.json,
  // added_tokens.json) or a GGUF's keys have said more of the tokens.
  if (facts_in(folder, tokenizer, model.description().vocabulary) != tokenizer.facts) {
    if (!tokenizer.facts.added.empty())
      chat.tokenizer_config = with_added_tokens(chat.tokenizer_config, tokenizer.facts);
    if (!tokenizer.facts.end_ids.empty())
      chat.generation_config = with_end_ids(chat.generation_config, tokenizer.facts);
    write_or_remove(folder / "tokenizer_config.json", chat.tokenizer_config);
    write_or_remove(folder / "generation_config.json", chat.generation_config);
  }
  for (const std::string_view name : kNames) {
    if (!fs::exists(folder / name)) continue;
    const auto bytes = base::read_file(folder / name);
    result.others.push_back({folder / name, bytes.size(), base::hash<base::Sha256>(bytes)});
  }
}

}  // namespace sluice::convert
