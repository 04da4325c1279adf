#include "tests/text/mistral_tokenizer.h"

#include <array>
#include <cstdio>
#include <map>
#include <string>

#include "format/sentencepiece_model.h"

namespace sluice::tests {
namespace {

using format::PieceType;

struct Vocabulary {
  std::size_t size;
  std::size_t first_byte_id;  ///< of <0x00>
  std::map<std::size_t, std::string> controls;
  std::map<std::size_t, std::string> pieces;
};

// The vectors tell where a word was split into two pieces, but not between which letters: the splits of
// SYSTEM and multiply are guessed.
const Vocabulary kV1 = {
    .size = 32000,
    .first_byte_id = 3,
    .controls = {{1, "<s>"}, {2, "</s>"}},
    .pieces = {
        {264, "▁a"},          {272, "▁the"},   {277, "▁c"},        {281, "▁d"},        {287, "▁b"},
        {302, "▁of"},         {346, "ly"},     {349, "▁is"},       {368, "▁you"},      {415, "▁The"},
        {648, "▁+"},          {733, "▁["},     {989, "▁two"},      {1096, "▁because"}, {1204, "▁result"},
        {1318, "▁x"},         {1824, "▁What"}, {2418, "▁Can"},     {2903, "▁results"}, {3454, "▁previous"},
        {4224, "▁questions"}, {5557, "▁root"}, {7930, "▁square"},  {8868, "▁Thanks"},  {12875, "▁Sure"},
        {16289, "INST"},      {17121, "▁SY"},  {17669, "▁multip"}, {21588, "▁equals"}, {22526, "STEM"},
        {28705, "▁"},         {28708, "a"},    {28713, "s"},       {28723, "."},       {28725, ","},
        {28734, "0"},         {28740, "1"},    {28742, "'"},       {28748, "/"},       {28781, "4"},
        {28782, "5"},         {28783, "8"},    {28784, "6"},       {28793, "]"},       {28804, "?"},
        {28808, "!"}}};

const Vocabulary kV3 = {
    .size = 32768,
    .first_byte_id = 771,
    .controls = {{1, "<s>"}, {2, "</s>"}, {3, "[INST]"}, {4, "[/INST]"}},
    .pieces = {
        {1032, "▁a"},       {1040, "▁the"},     {1045, "▁c"},       {1049, "▁d"},        {1055, "▁b"},
        {1070, "▁of"},      {1114, "ly"},       {1117, "▁is"},      {1136, "▁you"},      {1183, "▁The"},
        {1416, "▁+"},       {1757, "▁two"},     {1864, "▁because"}, {1972, "▁result"},   {2086, "▁x"},
        {2592, "▁What"},    {3186, "▁Can"},     {3671, "▁results"}, {4222, "▁previous"}, {4992, "▁questions"},
        {6325, "▁root"},    {8698, "▁square"},  {9636, "▁Thanks"},  {13643, "▁Sure"},    {17889, "▁SY"},
        {18437, "▁multip"}, {22356, "▁equals"}, {23294, "STEM"},    {29473, "▁"},        {29476, "a"},
        {29481, "s"},       {29485, "c"},       {29491, "."},       {29493, ","},        {29502, "0"},
        {29508, "1"},       {29510, "'"},       {29549, "4"},       {29550, "5"},        {29551, "8"},
        {29552, "6"},       {29572, "?"},       {29576, "!"}}};

std::string byte_piece(std::size_t byte) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "<0x%02X>", static_cast<unsigned>(byte));
  return text.data();
}

/// All pieces have the same score, so that the library takes the fewest pieces that make up a text.
format::SentencePieceModel make_model(const Vocabulary& vocabulary) {
  format::SentencePieceModel model;
  model.byte_fallback = true;
  model.remove_extra_whitespaces = false;
  for (std::size_t id = 0; id < vocabulary.size; ++id)
    model.pieces.push_back({"unused " + std::to_string(id), -1, PieceType::unused});
  model.pieces[0] = {"<unk>", 0, PieceType::unknown};
  for (std::size_t byte = 0; byte < 256; ++byte)
    model.pieces[vocabulary.first_byte_id + byte] = {byte_piece(byte), 0, PieceType::byte};
  for (const auto& [id, text] : vocabulary.controls) model.pieces[id] = {text, 0, PieceType::control};
  for (const auto& [id, text] : vocabulary.pieces) model.pieces[id] = {text, -1, PieceType::normal};
  return model;
}

}  // namespace

std::unique_ptr<text::Tokenizer> make_mistral_tokenizer(MistralVersion version) {
  const auto bytes = format::encode_sentencepiece(make_model(version == MistralVersion::v1 ? kV1 : kV3));
  return text::make_tokenizer({.model = bytes}, "mistral");
}

}  // namespace sluice::tests
