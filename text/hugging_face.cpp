// Reads a tokenizer.json, the file of Hugging Face's tokenizers library, of which the model is byte-pair
// encoding. The file names a normalizer, a pre-tokenizer, a model, a post-processor and a decoder. Each of
// them is either understood to the last key or refused by name: a tokenizer that is nearly right gives a
// model ids that it was not trained on, and nobody sees why it answers badly.
//
// Control tokens are kept out of the tables from which encode() takes its ids, so that no spelling and no
// merge leads to one. Source: tokenizers (Rust) 0.21.

#include "text/hugging_face.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "text/bpe_tokenizer.h"
#include "text/byte_letters.h"
#include "text/hugging_face_pipeline.h"
#include "text/in_quotes.h"

namespace sluice::text {
namespace {

using format::Json;
using format::place_of;

/// The byte of "<0x0A>"; nothing for other texts.
std::optional<std::uint8_t> byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || !piece.ends_with('>')) return std::nullopt;
  std::uint8_t byte = 0;
  const auto result = std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16);
  return result.ptr == piece.data() + 5 ? std::optional(byte) : std::nullopt;
}

class Reader {
 public:
  Reader(const TokenizerBundle& bundle, std::string_view subject)
      : subject_(subject),
        config_subject_(std::string(subject) + ": tokenizer_config.json"),
        bundle_(bundle),
        file_(format::parse_json(base::as_text(bundle.model), subject)),
        config_(bundle.config.empty() ? Json::object() : format::parse_json(bundle.config, config_subject_)) {
  }

  BpeTokenizerParts read() {
    // The library ignores truncation and padding, too, unless a caller asks for them.
    format::require_known_keys(file_,
                               {"version", "truncation", "padding", "added_tokens", "normalizer",
                                "pre_tokenizer", "post_processor", "decoder", "model"},
                               subject_);
    if (const Json* version = file_.find("version"); version != nullptr && *version != Json("1.0"))
      base::throw_malformed(place_of(subject_, "version"), "expected '1.0', found " + version->dump());
    model_place_ = place_of(subject_, "model");
    const Json& model = file_.at("model", subject_);
    pipeline_ = read_pipeline(file_, config_, subject_);
    check_model(model);
    vocabulary_ = &model.at("vocab", model_place_);
    read_added_tokens();
    read_ends();
    read_vocabulary(vocabulary_->as_object(place_of(model_place_, "vocab")));
    read_merges(model.at("merges", model_place_).as_array(place_of(model_place_, "merges")));
    find_bytes();
    add_other_tokens();
    parts_.normalizer = std::move(pipeline_.normalizer);
    parts_.pre_tokenizer = std::move(pipeline_.pre_tokenizer);
    parts_.shown_as = std::move(pipeline_.shown_as);
    return std::move(parts_);
  }

 private:
  void check_model(const Json& model) {
    format::require_known_keys(
        model,
        {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
         "byte_fallback", "ignore_merges", "vocab", "merges"},
        model_place_);
    // Old files do not name the type; of the library's models only BPE has merges.
    if (const Json* type = model.find("type"); type != nullptr && *type != Json("BPE"))
      base::throw_malformed(place_of(model_place_, "type"), "expected 'BPE', found " + type->dump());
    const auto refuse_unless_default = [&](std::string_view key, const Json& value) {
      const Json* found = model.find(key);
      if (found != nullptr && !found->is_null() && *found != value)
        base::throw_malformed(place_of(model_place_, key),
                              "the value " + in_quotes(found->dump()) + " is not supported");
    };
    refuse_unless_default("continuing_subword_prefix", "");
    refuse_unless_default("end_of_word_suffix", "");
    refuse_unless_default("dropout", 0.0);
    parts_.model.whole_pieces_first = flag(model, "ignore_merges", model_place_);
    // unk_token and fuse_unk are for text that has no token; every byte has one here.
    if (!pipeline_.is_byte_level && !flag(model, "byte_fallback", model_place_))
      base::throw_malformed(place_of(model_place_, "byte_fallback"),
                            "expected true for a tokenizer without ByteLevel: without it, text is lost");
    parts_.model.start = pipeline_.is_byte_level ? StartSymbols::bytes : StartSymbols::characters;
  }

  static bool flag(const Json& object, std::string_view key, std::string_view place) {
    const Json* value = object.find(key);
    return value != nullptr && !value->is_null() && value->as_bool(place_of(place, key));
  }

  static TokenId checked_id(const Json& value, std::string_view place) {
    const std::uint64_t id = value.as_uint(place);
    if (id > static_cast<std::uint64_t>(kTokenIdMax))
      base::throw_malformed(place,
                            "the id " + std::to_string(id) + " is above " + std::to_string(kTokenIdMax));
    return static_cast<TokenId>(id);
  }

  void read_added_tokens() {
    const Json* added = file_.find("added_tokens");
    if (added == nullptr || added->is_null()) return;
    const std::string place = place_of(subject_, "added_tokens");
    for (const Json& item : added->as_array(place)) {
      format::require_known_keys(
          item, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}, place);
      AddedTokenRule rule;
      rule.id = checked_id(item.at("id", place), place);
      rule.text = item.at("content", place).as_string(place);
      rule.single_word = flag(item, "single_word", place);
      rule.left_strip = flag(item, "lstrip", place);
      rule.right_strip = flag(item, "rstrip", place);
      rule.needs_trust = flag(item, "special", place);
      // The library's default for tokens that a file does not describe in full.
      rule.normalized =
          item.find("normalized") == nullptr ? !rule.needs_trust : flag(item, "normalized", place);
      if (rule.text.empty() || rule.text.size() > kAddedTokenBytesMax)
        base::throw_malformed(place, "the token " + std::to_string(rule.id) + " has " +
                                         std::to_string(rule.text.size()) + " bytes, expected 1 to " +
                                         std::to_string(kAddedTokenBytesMax));
      if (!added_ids_.emplace(rule.text, rule.id).second)
        base::throw_malformed(place, "the token " + in_quotes(rule.text) + " occurs twice");
      if (!added_texts_.emplace(rule.id, rule.text).second)
        base::throw_malformed(place, "the id " + std::to_string(rule.id) + " occurs twice");
      if (rule.needs_trust) parts_.controls.emplace(rule.text, rule.id);
      parts_.added.push_back(std::move(rule));
    }
  }

  /// The id of a token by its spelling in the files; Error{malformed} where there is none.
  TokenId token_named(const std::string& name, std::string_view place) {
    if (const auto added = added_ids_.find(name); added != added_ids_.end()) return added->second;
    if (const Json* id = vocabulary_->find(name)) return checked_id(*id, place);
    base::throw_malformed(place,
                          "the token " + in_quotes(name) + " is in neither the vocabulary nor added_tokens");
  }

  /// A token of tokenizer_config.json: a string, or an object with `content`.
  std::optional<TokenId> configured_token(std::string_view key) {
    const Json* value = config_.find(key);
    if (value == nullptr || value->is_null()) return std::nullopt;
    const std::string place = place_of(config_subject_, key);
    const std::string& name =
        value->is_object() ? value->at("content", place).as_string(place) : value->as_string(place);
    return control_named(name, place);
  }

  /// The library makes these tokens special ones, whatever added_tokens says.
  TokenId control_named(const std::string& name, std::string_view place) {
    const TokenId id = token_named(name, place);
    parts_.controls.emplace(name, id);
    for (AddedTokenRule& rule : parts_.added)
      if (rule.id == id) rule.needs_trust = true;
    return id;
  }

  void read_ends() {
    const auto bos = configured_token("bos_token");
    const auto eos = configured_token("eos_token");
    if (flag(config_, "add_bos_token", config_subject_)) {
      if (!bos)
        base::throw_malformed(place_of(config_subject_, "add_bos_token"),
                              "is true, but there is no bos_token");
      parts_.bos = bos;
    }
    if (!pipeline_.token_in_front.empty()) {
      const std::string place = place_of(subject_, "post_processor");
      const TokenId front = control_named(pipeline_.token_in_front, place);
      if (static_cast<std::uint64_t>(front) != pipeline_.id_in_front)
        base::throw_malformed(place, "the id of " + in_quotes(pipeline_.token_in_front) + " is " +
                                         std::to_string(front) + ", not " +
                                         std::to_string(pipeline_.id_in_front));
      if (parts_.bos && *parts_.bos != front)
        base::throw_malformed(place, "puts " + in_quotes(pipeline_.token_in_front) +
                                         " in front of a text, tokenizer_config.json another token");
      parts_.bos = front;
    }
    parts_.end_ids = joined_end_ids(bundle_.end_ids, eos, subject_);
    for (const auto& [text, id] : parts_.controls) control_ids_.push_back(id);
    std::ranges::sort(control_ids_);
  }

  [[nodiscard]] bool is_control(TokenId id) const { return std::ranges::binary_search(control_ids_, id); }

  /// The bytes of a text that a vocabulary's key can become; nothing for keys that no text becomes.
  [[nodiscard]] std::optional<std::string> bytes_of(std::string_view key) const {
    if (pipeline_.is_byte_level) return bytes_of_letters(key);
    if (byte_of(key)) return std::nullopt;
    return std::string(key);
  }

  void read_vocabulary(const Json::Object& vocabulary) {
    const std::string place = place_of(model_place_, "vocab");
    PieceTable& pieces = parts_.model.pieces;
    parts_.model.byte_ids.fill(BpeModel::kNoToken);
    for (const auto& [key, value] : vocabulary) {
      const TokenId id = checked_id(value, place);
      if (pieces.has(id)) base::throw_malformed(place, "the id " + std::to_string(id) + " is given twice");
      check_against_added(key, id, place);
      const auto bytes = bytes_of(key);
      const auto byte = pipeline_.is_byte_level ? std::nullopt : byte_of(key);
      if (byte) {
        pieces.set(id, std::string(1, static_cast<char>(*byte)));
        if (!is_control(id)) parts_.model.byte_ids[*byte] = id;
      } else {
        pieces.set(id, bytes ? *bytes : key);
      }
      if (bytes && !is_control(id)) {
        static_cast<void>(pieces.index(id));
      } else {
        unreachable_.emplace(key, id);
      }
    }
  }

  void check_against_added(const std::string& key, TokenId id, std::string_view place) const {
    const auto same_text = added_ids_.find(key);
    const auto same_id = added_texts_.find(id);
    const bool agrees =
        same_text == added_ids_.end() ? same_id == added_texts_.end() : same_text->second == id;
    if (!agrees)
      base::throw_malformed(place, "the token " + in_quotes(key) + " with the id " + std::to_string(id) +
                                       " contradicts added_tokens");
  }

  /// The id of a key of the vocabulary, and whether a text can become it.
  struct Known {
    TokenId id;
    bool is_reachable;
  };
  [[nodiscard]] std::optional<Known> known(const std::string& key) const {
    if (const auto bytes = bytes_of(key))
      if (const auto id = parts_.model.pieces.find(*bytes)) return Known{*id, true};
    if (const auto found = unreachable_.find(key); found != unreachable_.end())
      return Known{found->second, false};
    return std::nullopt;
  }

  void read_merges(const Json::Array& merges) {
    const std::string place = place_of(model_place_, "merges");
    parts_.model.merges = MergeTable(merges.size());
    std::uint32_t rank = 0;
    std::string left;
    std::string right;
    for (const Json& merge : merges) {
      if (!merge.is_string()) {
        const Json::Array& pair = merge.as_array(place);
        if (pair.size() != 2) base::throw_malformed(place, "merge " + std::to_string(rank) + " is no pair");
        left = pair[0].as_string(place);
        right = pair[1].as_string(place);
      } else {
        const std::string& text = merge.as_string(place);
        if (text.starts_with("#version")) continue;  // the first line of merges.txt
        const std::size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
          base::throw_malformed(place, "merge " + std::to_string(rank) + " is no pair: " + in_quotes(text));
        left.assign(text, 0, space);
        right.assign(text, space + 1);
      }
      add_merge(left, right, rank++, place);
    }
  }

  void add_merge(const std::string& left, const std::string& right, std::uint32_t rank,
                 std::string_view place) {
    const auto known_left = known(left);
    const auto known_right = known(right);
    const auto product =
        known_left && known_right ? known_product(left, *known_left, right, *known_right) : std::nullopt;
    if (!product)
      base::throw_malformed(place, "merge " + std::to_string(rank) + " of " + in_quotes(left) + " and " +
                                       in_quotes(right) +
                                       ": one of them or both together are not in the vocabulary");
    if (known_left->is_reachable && known_right->is_reachable && product->is_reachable)
      parts_.model.merges.set(known_left->id, known_right->id, {rank, product->id});
  }

  [[nodiscard]] std::optional<Known> known_product(const std::string& left, Known known_left,
                                                   const std::string& right, Known known_right) {
    if (!known_left.is_reachable || !known_right.is_reachable) return known(left + right);
    // The letters of both together spell the bytes of both together.
    const PieceTable& pieces = parts_.model.pieces;
    product_bytes_.assign(pieces.bytes(known_left.id)).append(pieces.bytes(known_right.id));
    if (const auto id = pieces.find(product_bytes_)) return Known{*id, true};
    const auto found = unreachable_.find(left + right);
    return found == unreachable_.end() ? std::nullopt : std::optional(Known{found->second, false});
  }

  void find_bytes() {
    auto& byte_ids = parts_.model.byte_ids;
    for (unsigned byte = 0; byte < 256; ++byte) {
      if (pipeline_.is_byte_level) {
        const auto id = parts_.model.pieces.find(std::string(1, static_cast<char>(byte)));
        byte_ids[byte] = id.value_or(BpeModel::kNoToken);
      }
      const bool occurs_in_utf8 = byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
      if (byte_ids[byte] == BpeModel::kNoToken && occurs_in_utf8)
        base::throw_malformed(place_of(model_place_, "vocab"),
                              "no token that is not special stands for the byte " + std::to_string(byte));
    }
  }

  /// Tokens beside the vocabulary: added_tokens, and what a fine-tune's files add to it.
  void add_other_tokens() {
    PieceTable& pieces = parts_.model.pieces;
    for (const auto& [id, text] : added_texts_)
      if (!pieces.has(id)) pieces.set(id, text);
    add_fine_tuned_tokens(parts_, bundle_.added, subject_);
  }

  std::string subject_;
  std::string config_subject_;
  std::string model_place_;
  const TokenizerBundle& bundle_;
  Json file_;
  Json config_;
  const Json* vocabulary_ = nullptr;
  Pipeline pipeline_;
  BpeTokenizerParts parts_;
  std::unordered_map<std::string, TokenId> added_ids_;
  std::map<TokenId, std::string> added_texts_;
  std::vector<TokenId> control_ids_;
  std::string product_bytes_;                             // of a merge; kept for its memory
  std::unordered_map<std::string, TokenId> unreachable_;  // keys of the vocabulary that no text becomes
};

}  // namespace

std::unique_ptr<Tokenizer> make_hugging_face_tokenizer(const TokenizerBundle& bundle,
                                                       std::string_view subject) {
  return make_bpe_tokenizer(Reader(bundle, subject).read());
}

}  // namespace sluice::text
