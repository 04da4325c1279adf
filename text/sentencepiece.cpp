// The tokenizer of tokenizer.model files, behind which Google's SentencePiece library stands. No other file
// sees the library. The library encodes and looks up pieces; decoding is done here, piece by piece, since the
// library's own Decode() takes whole texts and drops the space before the first word. The processor does not
// change after it is loaded, so any number of threads may use it.

#include "text/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "base/error.h"
#include "format/json.h"

namespace sluice::text {
namespace {

// U+2581, which stands for a space inside of pieces.
constexpr std::string_view kWordMark = "\u2581";

/// Whether a BOS stands before a text: the models of this kind were trained so, but for those whose release
/// says otherwise (Grok-1).
bool adds_bos(std::string_view config, std::string_view subject) {
  if (config.empty()) return true;
  const std::string place = std::string(subject) + ": tokenizer_config.json";
  const format::Json json = format::parse_json(config, place);
  const format::Json* flag = json.find("add_bos_token");
  return flag == nullptr || flag->is_null() || flag->as_bool(place + ": key 'add_bos_token'");
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const TokenizerBundle& bundle, std::string_view subject) {
    const auto status = processor_.LoadFromSerializedProto(base::as_text(bundle.model));
    if (!status.ok()) base::throw_malformed(subject, "is no SentencePiece model: " + status.ToString());
    if (adds_bos(bundle.config, subject)) {
      if (processor_.bos_id() < 0) base::throw_malformed(subject, "has no BOS piece");
      bos_ = processor_.bos_id();
    }
    if (processor_.eos_id() < 0 && bundle.end_ids.empty()) base::throw_malformed(subject, "has no EOS piece");
    size_ = static_cast<std::size_t>(processor_.GetPieceSize());
    for (const AddedToken& token : bundle.added) {
      if (token.id < 0) base::throw_malformed(subject, "has an added token of a negative id");
      added_[token.id] = token;
      size_ = std::max(size_, static_cast<std::size_t>(token.id) + 1);
    }
    collect_controls();
    for (const TokenId id : bundle.end_ids) {
      if (id < 0) base::throw_malformed(subject, "has a negative end id");
      if (!is_end(id)) end_ids_.push_back(id);
    }
    if (processor_.eos_id() >= 0 && !is_end(processor_.eos_id())) end_ids_.push_back(processor_.eos_id());
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) base::throw_malformed("prompt", "cannot be tokenized: " + status.ToString());
    return ids;
  }

  std::vector<TokenId> encode(std::string_view text, std::span<const TextRange> trusted) const override {
    std::vector<TokenId> ids;
    std::size_t done = 0;  // the text before it has its ids
    const auto encode_until = [&](std::size_t end) {
      const auto plain = encode(text.substr(done, end - done));
      ids.insert(ids.end(), plain.begin(), plain.end());
    };
    for (const TextRange& range : trusted) {
      for (std::size_t at = range.begin; at < range.end;) {
        const auto control = control_at(text.substr(at, range.end - at));
        if (!control) {
          ++at;
          continue;
        }
        if (done < at) encode_until(at);
        ids.push_back(control->second);
        at += control->first.size();
        done = at;
      }
    }
    if (done < text.size()) encode_until(text.size());
    return ids;
  }

  std::string piece_bytes(TokenId id) const override {
    if (const auto added = added_.find(id); added != added_.end())
      return added->second.control ? std::string() : added->second.text;
    if (id < 0 || id >= processor_.GetPieceSize() || processor_.IsControl(id)) return {};
    const std::string& piece = processor_.IdToPiece(id);
    // U+2047, as the library itself shows an unknown piece.
    if (processor_.IsUnknown(id)) return "\u2047";
    if (processor_.IsByte(id)) return byte_of(piece);
    std::string bytes;
    for (std::size_t at = 0; at < piece.size();) {
      const bool mark = piece.compare(at, kWordMark.size(), kWordMark) == 0;
      bytes += mark ? ' ' : piece[at];
      at += mark ? kWordMark.size() : 1;
    }
    return bytes;
  }

  std::size_t size() const override { return size_; }
  std::optional<TokenId> bos() const override { return bos_; }
  bool marks_each_broken_byte() const override { return true; }
  TokenId eos() const override { return end_ids_.front(); }
  std::span<const TokenId> end_ids() const override { return end_ids_; }
  std::optional<TokenId> control_id(std::string_view piece) const override {
    const auto found = controls_.find(piece);
    return found == controls_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string control_text(TokenId id) const override {
    const auto found = std::ranges::find(controls_, id, [](const auto& control) { return control.second; });
    return found == controls_.end() ? std::string() : found->first;
  }

 private:
  /// The longest control piece with which `text` begins.
  std::optional<std::pair<std::string, TokenId>> control_at(std::string_view text) const {
    std::optional<std::pair<std::string, TokenId>> longest;
    for (const auto& control : controls_)
      if (text.starts_with(control.first) && (!longest || longest->first.size() < control.first.size()))
        longest = control;
    return longest;
  }

  void collect_controls() {
    for (TokenId id = 0; id < processor_.GetPieceSize(); ++id)
      if (processor_.IsControl(id) && !added_.contains(id)) controls_.emplace(processor_.IdToPiece(id), id);
    for (const auto& [id, token] : added_)
      if (token.control && !token.text.empty()) controls_.insert_or_assign(token.text, id);
  }

  // "<0x0A>" is the byte 10.
  static std::string byte_of(const std::string& piece) {
    unsigned value = 0;
    std::from_chars(piece.data() + 3, piece.data() + piece.size(), value, 16);
    return std::string(1, static_cast<char>(value));
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::map<TokenId, AddedToken> added_;
  std::map<std::string, TokenId, std::less<>> controls_;  // by spelling
  std::size_t size_ = 0;
  std::optional<TokenId> bos_;
  std::vector<TokenId> end_ids_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const TokenizerBundle& bundle,
                                                        std::string_view subject) {
  return std::make_unique<SentencePieceTokenizer>(bundle, subject);
}

}  // namespace sluice::text
