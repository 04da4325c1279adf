#include "format/sentencepiece_model.h"

#include <doctest/doctest.h>

#include <string>

#include "base/file.h"
#include "tests/support/check_error.h"

using namespace sluice;
using base::ErrorKind;
using format::PieceType;
using format::SentencePieceModel;
using std::string_literals::operator""s;

namespace {

SentencePieceModel small_model() {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, PieceType::unknown},
                  {"<s>", 0, PieceType::control},
                  {"</s>", 0, PieceType::control},
                  {"<0x00>", 0, PieceType::byte},
                  {"\u2581a", -1.5F, PieceType::normal}};
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.byte_fallback = true;
  model.remove_extra_whitespaces = false;
  return model;
}

SentencePieceModel parse(const std::string& bytes) {
  return format::parse_sentencepiece(base::as_bytes(bytes), "t");
}

}  // namespace

TEST_CASE("the demo release's tokenizer is read as it is described") {
  const auto bytes = base::read_file(std::string(SLUICE_DEMO_RELEASE) + "/tokenizer.model");
  const auto model = format::parse_sentencepiece(bytes, "tokenizer.model");
  CHECK(model.pieces.size() == 2048);
  CHECK(model.pieces[0] == format::SentencePiece{"<unk>", 0, PieceType::unknown});
  CHECK(model.pieces[2] == format::SentencePiece{"</s>", 0, PieceType::control});
  CHECK(model.pieces[3 + 10] == format::SentencePiece{"<0x0A>", 0, PieceType::byte});
  CHECK(model.pieces[300].type == PieceType::normal);
  CHECK(model.algorithm == SentencePieceModel::Algorithm::bpe);
  CHECK(model.byte_fallback);
  CHECK(model.add_dummy_prefix);
  CHECK_FALSE(model.remove_extra_whitespaces);
  CHECK_FALSE(model.has_charsmap);
  CHECK(model.unk_id == 0);
  CHECK(model.pad_id == -1);
}

TEST_CASE("what is written as a SentencePiece model is read back the same") {
  const auto model = small_model();
  CHECK(format::parse_sentencepiece(format::encode_sentencepiece(model), "t") == model);
}

TEST_CASE("a SentencePiece model that is cut off anywhere is refused") {
  const auto whole = format::encode_sentencepiece(small_model());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_ERROR(static_cast<void>(format::parse_sentencepiece(cut, "t")), ErrorKind::malformed, "t: ");
  }
}

TEST_CASE("bad SentencePiece models are refused with their cause") {
  struct Row {
    std::string bytes;
    std::string cause;
  };
  const std::string piece = "\x0a\x03\x0a\x01x";
  const Row rows[] = {
      {"", "t: has no pieces: it is no SentencePiece model"},
      {"\x0a\x7f", "t: is cut off, or is no SentencePiece model"},
      {"\x0a", "t: is cut off, or is no SentencePiece model"},
      {"\x02\x00"s, "t: has a field of number 0"},
      {"\x0b", "t: has a field of wire type 3, which is not known"},
      {std::string(11, '\xff'), "t: has a number of more than ten bytes"},
      {"\x08\x01", "t: field 1 has the wrong wire type"},
      {"\x0a\x00"s, "t: piece 0 is empty"},
      {"\x0a\x03\x0a\x01\xff", "t: piece 0 is not UTF-8"},
      {"\x0a\x02\x08\x01", "t: piece 0 has the wrong wire type"},
      {"\x0a\x05\x0a\x01x\x18\x07", "t: piece 0 has the type 7, expected 1 to 6"},
      {"\x0a\x08\x0a\x01x\x15\x00\x00\xc0\x7f"s, "t: piece 0 has a score that is no number"},
      {"\x0a\x84\x08\x0a\x81\x08" + std::string(1025, 'x'),
       "t: piece 0 has 1025 bytes, at most 1024 are allowed"},
      {piece + "\x12\x02\x18\x05", "t: model_type is 5, expected 1 to 4"},
      {piece, "t: ends before its trainer_spec and normalizer_spec: the file is cut"},
      {piece + "\x12\x02\x18\x02", "t: ends before its trainer_spec and normalizer_spec: the file is cut"},
      {piece + "\x12\x02\x18\x02" + "\x1a\x02\x18\x01", "t: bos_id is 1, but there are 1 pieces"},
  };
  for (const Row& row : rows) {
    CAPTURE(row.cause);
    CHECK_ERROR(parse(row.bytes), ErrorKind::malformed, row.cause);
  }
}
