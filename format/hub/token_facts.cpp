// Which file says what, and which of two files is believed: transformers' generate() takes the end ids of
// generation_config.json, else those of config.json, and a tokenizer names its own end by its text. A model
// that was published with two of them was trained to use either, so all of them end a text here.
// tokenizer_config.json is newer than added_tokens.json and says more, so its tokens win.

#include "format/hub/token_facts.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <system_error>

#include "base/ascii.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFileBytesMax = 32u << 20;
constexpr std::size_t kAddedMax = 1u << 16;
constexpr std::size_t kEndIdsMax = 64;
constexpr std::size_t kTextBytesMax = 1024;

/// Nothing when the folder has no such file.
std::optional<Json> read_json(const fs::path& path) {
  std::error_code absent;
  if (!fs::is_regular_file(path, absent)) return std::nullopt;
  Json json = parse_json(base::read_text_file(path, kFileBytesMax), path.string());
  static_cast<void>(json.as_object(path.string()));
  return json;
}

std::int32_t checked_id(std::uint64_t id, std::uint64_t vocabulary, const std::string& where) {
  if (id < vocabulary && id <= INT32_MAX) return static_cast<std::int32_t>(id);
  base::throw_malformed(where, "is token " + std::to_string(id) + ", but the model has a vocabulary of " +
                                   std::to_string(vocabulary));
}

void check_text(const std::string& text, const std::string& where) {
  if (text.empty() || text.size() > kTextBytesMax || !base::is_utf8(text))
    base::throw_malformed(where, "has no text of 1 to 1024 bytes of UTF-8");
}

void add_end(std::int32_t id, TokenFacts& facts) {
  if (std::ranges::find(facts.end_ids, id) == facts.end_ids.end()) facts.end_ids.push_back(id);
}

/// The key "eos_token_id" of a configuration. A model that also reads images has the keys of its text model
/// one level deeper.
const Json* find_end_ids(const Json& config) {
  const Json* value = config.find("eos_token_id");
  const Json* inner = config.find("text_config");
  return value != nullptr || inner == nullptr ? value : inner->find("eos_token_id");
}

/// "eos_token_id": 2, or [2, 32000], or null.
void add_end_ids(const fs::path& path, std::uint64_t vocabulary, TokenFacts& facts) {
  const auto json = read_json(path);
  const Json* value = json ? find_end_ids(*json) : nullptr;
  if (value == nullptr || value->is_null()) return;
  const std::string where = place_of(path.string(), "eos_token_id");
  if (!value->is_array()) return add_end(checked_id(value->as_uint(where), vocabulary, where), facts);
  const auto& list = value->as_array(where);
  if (list.size() > kEndIdsMax)
    base::throw_malformed(where, "has " + std::to_string(list.size()) + " ids, at most 64 are supported");
  for (const Json& id : list) add_end(checked_id(id.as_uint(where), vocabulary, where), facts);
}

class Reader final {
 public:
  Reader(const fs::path& folder, const SentencePieceModel& tokenizer, std::uint64_t vocabulary)
      : folder_(folder), tokenizer_(tokenizer), vocabulary_(vocabulary) {}

  TokenFacts read() {
    read_added_tokens();
    const auto tokenizer_config = read_json(folder_ / "tokenizer_config.json");
    if (tokenizer_config) read_decoder(*tokenizer_config);
    TokenFacts facts = read_end_ids(folder_, vocabulary_);
    for (auto& [id, token] : added_) facts.added.push_back(std::move(token));
    if (tokenizer_config) read_eos_token(*tokenizer_config, facts);
    // Nothing is recorded that the tokenizer says itself.
    if (facts.end_ids == std::vector<std::int32_t>{tokenizer_.eos_id}) facts.end_ids.clear();
    return facts;
  }

 private:
  void add(std::uint64_t id, const std::string& text, bool control, const std::string& where) {
    check_text(text, where);
    const std::int32_t checked = checked_id(id, vocabulary_, where);
    const auto index = static_cast<std::size_t>(checked);
    // These files also list pieces of the tokenizer, such as <s>.
    if (index < tokenizer_.pieces.size() && tokenizer_.pieces[index].text == text) return;
    added_[checked] = {checked, text, control};
    if (added_.size() > kAddedMax) base::throw_malformed(where, "is one of more than 65536 added tokens");
  }

  /// {"<|im_end|>": 32000}: what transformers wrote until version 4.33, without saying which are special.
  void read_added_tokens() {
    const fs::path path = folder_ / "added_tokens.json";
    const auto json = read_json(path);
    if (!json) return;
    for (const auto& [text, id] : json->as_object(path.string())) {
      const std::string where = path.string() + ": token '" + base::to_printable(text) + "'";
      add(id.as_uint(where), text, true, where);
    }
  }

  /// {"added_tokens_decoder": {"32000": {"content": "<|im_end|>", "special": true, ...}}}
  void read_decoder(const Json& config) {
    const std::string subject = (folder_ / "tokenizer_config.json").string();
    const Json* decoder = config.find("added_tokens_decoder");
    if (decoder == nullptr || decoder->is_null()) return;
    const std::string place = place_of(subject, "added_tokens_decoder");
    for (const auto& [key, token] : decoder->as_object(place)) {
      const std::string where = place + ": token '" + base::to_printable(key) + "'";
      const auto id = base::parse_uint(key);
      if (!id) base::throw_malformed(where, "is no token id");
      const Json* special = token.find("special");
      add(*id, token.at("content", where).as_string(where), special == nullptr || special->as_bool(where),
          where);
    }
  }

  /// "eos_token": "<|im_end|>", or {"content": "<|im_end|>", ...}. A text that no token has is left to the
  /// ids: tokenizers of other kinds may have it.
  void read_eos_token(const Json& config, TokenFacts& facts) {
    const Json* value = config.find("eos_token");
    if (value != nullptr && value->is_object()) value = value->find("content");
    if (value == nullptr || !value->is_string()) return;
    const std::string& text = value->as_string("eos_token");
    for (const AddedToken& token : facts.added)
      if (token.text == text) return add_end(token.id, facts);
    const auto piece = std::ranges::find(tokenizer_.pieces, text, &SentencePiece::text);
    if (piece != tokenizer_.pieces.end())
      add_end(static_cast<std::int32_t>(piece - tokenizer_.pieces.begin()), facts);
  }

  const fs::path& folder_;
  const SentencePieceModel& tokenizer_;
  std::uint64_t vocabulary_;
  std::map<std::int32_t, AddedToken> added_;
};

}  // namespace

TokenFacts read_token_facts(const fs::path& folder, const SentencePieceModel& tokenizer,
                            std::uint64_t vocabulary) {
  return Reader(folder, tokenizer, vocabulary).read();
}

TokenFacts read_end_ids(const fs::path& folder, std::uint64_t vocabulary) {
  TokenFacts facts;
  for (const char* name : {"generation_config.json", "config.json"})
    add_end_ids(folder / name, vocabulary, facts);
  return facts;
}

std::string to_text(const TokenFacts& facts) {
  Json added = Json::array();
  for (const AddedToken& token : facts.added)
    added.push_back(Json::object({{"id", token.id}, {"text", token.text}, {"control", token.control}}));
  return Json::object({{"added", std::move(added)}, {"end_ids", Json::array_of(facts.end_ids)}}).dump();
}

TokenFacts parse_token_facts(std::string_view text, std::uint64_t vocabulary, std::string_view subject) {
  const Json json = parse_json(text, subject);
  require_known_keys(json, {"added", "end_ids"}, subject);
  TokenFacts facts;
  const std::string added = place_of(subject, "added");
  for (const Json& item : json.at("added", subject).as_array(added)) {
    require_known_keys(item, {"id", "text", "control"}, added);
    const std::int32_t id = checked_id(item.at("id", added).as_uint(added), vocabulary, added);
    if (!facts.added.empty() && id <= facts.added.back().id)
      base::throw_malformed(added, "the ids are not in order");
    facts.added.push_back(
        {id, item.at("text", added).as_string(added), item.at("control", added).as_bool(added)});
    check_text(facts.added.back().text, added);
  }
  const std::string ends = place_of(subject, "end_ids");
  for (const Json& id : json.at("end_ids", subject).as_array(ends))
    facts.end_ids.push_back(checked_id(id.as_uint(ends), vocabulary, ends));
  if (facts.added.size() > kAddedMax || facts.end_ids.size() > kEndIdsMax)
    base::throw_malformed(subject, "has more than 65536 added tokens or 64 end ids");
  return facts;
}

}  // namespace sluice::format
