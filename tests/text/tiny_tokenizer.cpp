#include "tests/text/tiny_tokenizer.h"

#include "base/bytes.h"
#include "text/byte_letters.h"

namespace sluice::tests {

using format::Json;

Json split(std::string_view expression) {
  return Json::object({{"type", "Split"},
                       {"pattern", Json::object({{"Regex", expression}})},
                       {"behavior", "Isolated"},
                       {"invert", false}});
}

Json byte_level(bool use_regex, bool add_prefix_space) {
  return Json::object({{"type", "ByteLevel"},
                       {"add_prefix_space", add_prefix_space},
                       {"trim_offsets", true},
                       {"use_regex", use_regex}});
}

Json sequence(std::string_view list_key, Json::Array parts) {
  return Json::object({{"type", "Sequence"}, {std::string(list_key), Json(std::move(parts))}});
}

Json added_token(int id, std::string_view text, bool special, bool normalized) {
  return Json::object({{"id", id},
                       {"content", text},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", normalized},
                       {"special", special}});
}

Json byte_level_tokenizer(const std::vector<std::pair<std::string, std::string>>& merges, Json::Array added) {
  Json vocabulary = Json::object();
  int next = 0;
  for (unsigned byte = 0; byte < 256; ++byte)
    vocabulary.set(text::letter_of_byte(static_cast<std::uint8_t>(byte)), next++);
  Json pairs = Json::array();
  for (const auto& [left, right] : merges) {
    vocabulary.set(left + right, next++);
    pairs.push_back(left + " " + right);
  }
  return Json::object({{"version", "1.0"},
                       {"added_tokens", Json(std::move(added))},
                       {"normalizer", Json()},
                       {"pre_tokenizer", byte_level(true)},
                       {"post_processor", Json()},
                       {"decoder", byte_level(true)},
                       {"model", Json::object({{"type", "BPE"}, {"vocab", vocabulary}, {"merges", pairs}})}});
}

std::unique_ptr<text::Tokenizer> make_tokenizer(const Json& file, std::string_view config) {
  const std::string text = file.dump();
  return text::make_tokenizer({.kind = text::TokenizerKind::hugging_face,
                               .model = base::as_bytes(text),
                               .config = config,
                               .end_ids = {0}},
                              "t.json");
}

std::string decoded(const text::Tokenizer& tokenizer, const std::vector<text::TokenId>& ids) {
  std::string text;
  for (const text::TokenId id : ids) text += tokenizer.piece_bytes(id);
  return text;
}

}  // namespace sluice::tests
