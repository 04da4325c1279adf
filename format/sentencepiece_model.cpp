// A reader and writer of the protobuf message sentencepiece.ModelProto, for the fields that Sluice needs,
// without protobuf's library and generated code.
//
// Message iterates over the fields of one message and checks every length before it uses it; nested messages
// are views into the same bytes, parsed by functions of their own, so nothing recurses on input. Unknown
// fields are skipped, as protobuf demands. Runs on the caller's thread.

#include "format/sentencepiece_model.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/invariant.h"
#include "base/text.h"

namespace sluice::format {
namespace {

constexpr std::size_t kPiecesMax = 1u << 24;
constexpr std::size_t kPieceBytesMax = 1024;

// Protocol Buffers encoding: https://protobuf.dev/programming-guides/encoding. Types 3 and 4 (groups) are
// obsolete.
enum class WireType : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

/// One field of a message: a number, or a view of its bytes.
struct Field {
  std::uint64_t number = 0;
  WireType type = WireType::varint;
  std::uint64_t value = 0;  ///< varint, fixed32, fixed64
  std::string_view bytes;
};

/// Iterates over the fields of a message. Refuses groups, which protobuf has abandoned.
class Message final {
 public:
  Message(std::string_view text, std::string_view subject) : text_(text), subject_(subject) {}

  [[nodiscard]] bool next(Field& field) {
    if (text_.empty()) return false;
    const std::uint64_t tag = varint();
    field = {.number = tag >> 3, .type = static_cast<WireType>(tag & 7), .value = 0, .bytes = {}};
    if (field.number == 0) refuse("has a field of number 0");
    switch (field.type) {
      case WireType::varint: field.value = varint(); return true;
      case WireType::fixed64: field.value = fixed(8); return true;
      case WireType::fixed32: field.value = fixed(4); return true;
      case WireType::bytes: field.bytes = take(varint()); return true;
    }
    refuse("has a field of wire type " + std::to_string(tag & 7) + ", which is not known");
  }

  [[noreturn]] void refuse(const std::string& cause) const { base::throw_malformed(subject_, cause); }

 private:
  std::string_view take(std::uint64_t count) {
    if (count > text_.size()) refuse("is cut off, or is no SentencePiece model");
    const std::string_view taken = text_.substr(0, static_cast<std::size_t>(count));
    text_.remove_prefix(taken.size());
    return taken;
  }

  std::uint64_t fixed(std::size_t count) {
    std::uint64_t value = 0;
    std::memcpy(&value, take(count).data(), count);
    return value;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    // Ten groups of 7 bits hold any 64-bit number.
    refuse("has a number of more than ten bytes");
  }

  std::string_view text_;
  std::string_view subject_;
};

/// A known field with another wire type is damage; an unknown one is not looked at.
void require_type(const Message& message, const Field& field, WireType type, std::string_view what) {
  if (field.type != type) message.refuse(std::string(what) + " has the wrong wire type");
}

SentencePiece parse_piece(std::string_view text, std::size_t id, std::string_view subject) {
  Message message(text, subject);
  const std::string where = "piece " + std::to_string(id);
  SentencePiece piece;
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 1:
        require_type(message, field, WireType::bytes, where);
        piece.text = field.bytes;
        break;
      case 2:
        require_type(message, field, WireType::fixed32, where);
        std::memcpy(&piece.score, &field.value, sizeof(piece.score));
        break;
      case 3:
        require_type(message, field, WireType::varint, where);
        if (field.value < 1 || field.value > 6)
          message.refuse(where + " has the type " + std::to_string(field.value) + ", expected 1 to 6");
        piece.type = static_cast<PieceType>(field.value);
        break;
      default: break;
    }
  }
  if (piece.text.empty()) message.refuse(where + " is empty");
  if (piece.text.size() > kPieceBytesMax)
    message.refuse(where + " has " + std::to_string(piece.text.size()) + " bytes, at most 1024 are allowed");
  if (!base::is_utf8(piece.text)) message.refuse(where + " is not UTF-8");
  if (!std::isfinite(piece.score)) message.refuse(where + " has a score that is no number");
  return piece;
}

// protobuf writes an int32 as the varint of its 64-bit two's complement, so -1 takes ten bytes.
std::int32_t to_int32(std::uint64_t value) { return static_cast<std::int32_t>(value); }

/// Field numbers are those of TrainerSpec in sentencepiece_model.proto.
void parse_trainer_spec(std::string_view text, SentencePieceModel& model, std::string_view subject) {
  Message message(text, subject);
  for (Field field; message.next(field);) {
    if (field.type != WireType::varint) continue;
    switch (field.number) {
      case 3:
        if (field.value < 1 || field.value > 4)
          message.refuse("model_type is " + std::to_string(field.value) + ", expected 1 to 4");
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(field.value);
        break;
      case 24: model.treat_whitespace_as_suffix = field.value != 0; break;
      case 35: model.byte_fallback = field.value != 0; break;
      case 40: model.unk_id = to_int32(field.value); break;
      case 41: model.bos_id = to_int32(field.value); break;
      case 42: model.eos_id = to_int32(field.value); break;
      case 43: model.pad_id = to_int32(field.value); break;
      default: break;
    }
  }
}

/// Field numbers are those of NormalizerSpec in sentencepiece_model.proto.
void parse_normalizer_spec(std::string_view text, SentencePieceModel& model, std::string_view subject) {
  Message message(text, subject);
  for (Field field; message.next(field);) {
    switch (field.number) {
      case 2: model.has_charsmap = !field.bytes.empty(); break;
      case 3: model.add_dummy_prefix = field.value != 0; break;
      case 4: model.remove_extra_whitespaces = field.value != 0; break;
      case 5: model.escape_whitespaces = field.value != 0; break;
      default: break;
    }
  }
}

/// Ids are indices into the pieces; -1 means that the model has no such token.
void check_ids(const SentencePieceModel& model, std::string_view subject) {
  for (const auto& [name, id] : {std::pair{"unk_id", model.unk_id},
                                 {"bos_id", model.bos_id},
                                 {"eos_id", model.eos_id},
                                 {"pad_id", model.pad_id}}) {
    if (id >= -1 && id < static_cast<std::int64_t>(model.pieces.size())) continue;
    base::throw_malformed(subject, std::string(name) + " is " + std::to_string(id) + ", but there are " +
                                       std::to_string(model.pieces.size()) + " pieces");
  }
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void put_number(std::string& out, unsigned field, std::int64_t value) {
  put_varint(out, field << 3 | static_cast<unsigned>(WireType::varint));
  put_varint(out, static_cast<std::uint64_t>(value));
}

void put_bytes(std::string& out, unsigned field, std::string_view bytes) {
  put_varint(out, field << 3 | static_cast<unsigned>(WireType::bytes));
  put_varint(out, bytes.size());
  out += bytes;
}

std::string encode_piece(const SentencePiece& piece) {
  std::string out;
  put_bytes(out, 1, piece.text);
  put_varint(out, 2 << 3 | static_cast<unsigned>(WireType::fixed32));
  out.append(reinterpret_cast<const char*>(&piece.score), sizeof(piece.score));
  if (piece.type != PieceType::normal) put_number(out, 3, static_cast<std::int64_t>(piece.type));
  return out;
}

// The encoders write the fields in the order of their numbers, as protobuf does, so that the bytes are
// reproducible.

std::string encode_trainer_spec(const SentencePieceModel& model) {
  std::string out;
  put_number(out, 3, static_cast<std::int64_t>(model.algorithm));
  put_number(out, 4, static_cast<std::int64_t>(model.pieces.size()));
  put_number(out, 24, model.treat_whitespace_as_suffix ? 1 : 0);
  put_number(out, 35, model.byte_fallback ? 1 : 0);
  put_number(out, 40, model.unk_id);
  put_number(out, 41, model.bos_id);
  put_number(out, 42, model.eos_id);
  put_number(out, 43, model.pad_id);
  // The library finds these tokens by their text, which defaults to <unk>, <s>, </s> and <pad>.
  for (const auto& [field, id] :
       {std::pair{45u, model.unk_id}, {46u, model.bos_id}, {47u, model.eos_id}, {48u, model.pad_id}}) {
    if (id >= 0) put_bytes(out, field, model.pieces[static_cast<std::size_t>(id)].text);
  }
  return out;
}

std::string encode_normalizer_spec(const SentencePieceModel& model) {
  std::string out;
  put_bytes(out, 1, "identity");
  put_number(out, 3, model.add_dummy_prefix ? 1 : 0);
  put_number(out, 4, model.remove_extra_whitespaces ? 1 : 0);
  put_number(out, 5, model.escape_whitespaces ? 1 : 0);
  return out;
}

}  // namespace

SentencePieceModel parse_sentencepiece(base::Bytes bytes, std::string_view subject) {
  Message message(base::as_text(bytes), subject);
  SentencePieceModel model;
  bool has_trainer_spec = false;
  bool has_normalizer_spec = false;
  for (Field field; message.next(field);) {
    if (field.number < 1 || field.number > 3) continue;
    has_trainer_spec |= field.number == 2;
    has_normalizer_spec |= field.number == 3;
    require_type(message, field, WireType::bytes, "field " + std::to_string(field.number));
    if (field.number == 1) {
      if (model.pieces.size() == kPiecesMax) message.refuse("has more than 16777216 pieces");
      model.pieces.push_back(parse_piece(field.bytes, model.pieces.size(), subject));
    } else if (field.number == 2) {
      parse_trainer_spec(field.bytes, model, subject);
    } else {
      parse_normalizer_spec(field.bytes, model, subject);
    }
  }
  if (model.pieces.empty()) message.refuse("has no pieces: it is no SentencePiece model");
  // Every trainer writes both, behind the pieces. Without them the defaults of the message would apply, and
  // texts would get other tokens.
  if (!has_trainer_spec || !has_normalizer_spec)
    message.refuse("ends before its trainer_spec and normalizer_spec: the file is cut");
  check_ids(model, subject);
  return model;
}

std::vector<std::byte> encode_sentencepiece(const SentencePieceModel& model) {
  // The map itself is not kept when a model is parsed, so it could not be written.
  INVARIANT(!model.has_charsmap);
  std::string out;
  for (const SentencePiece& piece : model.pieces) put_bytes(out, 1, encode_piece(piece));
  put_bytes(out, 2, encode_trainer_spec(model));
  put_bytes(out, 3, encode_normalizer_spec(model));
  const auto bytes = base::as_bytes(out);
  return {bytes.begin(), bytes.end()};
}

}  // namespace sluice::format
