// What the repositories of Hugging Face's hub have around a checkpoint: files about tokens, tokenizers under
// several names, and the cache of links.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "format/hub/cache_folder.h"
#include "format/hub/token_facts.h"
#include "format/hub/tokenizer_file.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

namespace sluice::format {
namespace {

namespace fs = std::filesystem;
using base::ErrorKind;
using tests::TempDir;

constexpr std::uint64_t kVocabulary = 12;

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  base::write_file(path, base::as_bytes(text));
}

SentencePieceModel ten_pieces() {
  SentencePieceModel model;
  for (int i = 0; i < 10; ++i) model.pieces.push_back({"p" + std::to_string(i), 0, PieceType::normal});
  return model;
}

struct TokenFolder {
  TempDir folder;

  TokenFacts read() const { return read_token_facts(folder.path(), ten_pieces(), kVocabulary); }
  void fail(const char* file, std::string_view text, const std::string& cause) const {
    write(folder / file, text);
    CHECK_ERROR(read(), ErrorKind::malformed, (folder / file).string() + ": " + cause);
    fs::remove(folder / file);
  }
};

TEST_CASE("end ids come from every file that names some, each once, those of generation first") {
  TokenFolder release;
  CHECK(release.read().empty());
  write(release.folder / "config.json", R"({"eos_token_id": 2})");
  CHECK(release.read().empty());  // the tokenizer's own
  write(release.folder / "config.json", R"({"eos_token_id": [2, 11]})");
  CHECK(release.read().end_ids == std::vector<std::int32_t>{2, 11});
  write(release.folder / "generation_config.json", R"({"eos_token_id": 10})");
  CHECK(release.read().end_ids == std::vector<std::int32_t>{10, 2, 11});
  write(release.folder / "config.json", R"({"eos_token_id": null})");
  CHECK(release.read().end_ids == std::vector<std::int32_t>{10});
  write(release.folder / "tokenizer_config.json", R"({"eos_token": "p7"})");
  CHECK(release.read().end_ids == std::vector<std::int32_t>{10, 7});
  write(release.folder / "tokenizer_config.json", R"({"eos_token": {"content": "nobody's"}})");
  CHECK(release.read().end_ids == std::vector<std::int32_t>{10});
}

TEST_CASE("added tokens come from either file, without the pieces that they repeat") {
  TokenFolder release;
  write(release.folder / "added_tokens.json", R"({"<|im_end|>": 10, "old": 11, "p3": 3})");
  const AddedToken end{10, "<|im_end|>", true};
  CHECK(release.read().added == std::vector<AddedToken>{end, {11, "old", true}});
  write(release.folder / "tokenizer_config.json",
        R"({"eos_token": "<|im_end|>", "added_tokens_decoder": {"1": {"content": "p1", "special": true},
            "5": {"content": "<tool>", "special": true}, "11": {"content": "new", "special": false}}})");
  CHECK(release.read().added == std::vector<AddedToken>{{5, "<tool>", true}, end, {11, "new", false}});
  CHECK(release.read().end_ids == std::vector<std::int32_t>{10});
}

TEST_CASE("bad files about tokens are refused with file, key and numbers") {
  const TokenFolder release;
  release.fail("config.json", R"({"eos_token_id": 12})",
               "key 'eos_token_id': is token 12, but the model has a vocabulary of 12");
  release.fail("generation_config.json", R"({"eos_token_id": [1, -1]})",
               "key 'eos_token_id': expected a whole number");
  release.fail("generation_config.json", R"({"eos_token_id": "</s>"})", "key 'eos_token_id': expected a");
  release.fail("generation_config.json", "[]", "expected an object, found an array");
  release.fail("added_tokens.json", R"({"[PAD]": 12})",
               "token '[PAD]': is token 12, but the model has a vocabulary of 12");
  release.fail("added_tokens.json", R"({"": 10})", "token '': has no text of 1 to 1024 bytes of UTF-8");
  release.fail("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
               "key 'added_tokens_decoder': token 'x': is no token id");
  release.fail("tokenizer_config.json", R"({"added_tokens_decoder": {"10": {}}})",
               "key 'added_tokens_decoder': token '10': key 'content' is missing");
}

TEST_CASE("facts about tokens go to text and back, and nothing else is read") {
  const TokenFacts facts{{{10, "<|im_end|>", true}, {11, "new", false}}, {10, 2}};
  CHECK(parse_token_facts(to_text(facts), kVocabulary, "t") == facts);
  const std::string text = to_text(facts);
  for (std::size_t size = 0; size < text.size(); ++size)
    CHECK_ERROR(parse_token_facts(text.substr(0, size), kVocabulary, "t"), ErrorKind::malformed, "t: ");
  struct Row {
    const char* text;
    const char* cause;
  };
  for (
      const auto& [bad, cause] : {
          Row{R"({"added":[]})", "t: key 'end_ids' is missing"},
          Row{R"({"added":[],"end_ids":[],"x":1})", "t: unknown key 'x'"},
          Row{R"({"added":[],"end_ids":[12]})", "t: key 'end_ids': is token 12"},
          Row{R"({"added":[{"id":3,"text":"a","control":true},{"id":3,"text":"b","control":true}],"end_ids":[]})",
              "t: key 'added': the ids are not in order"},
          Row{R"({"added":[{"id":3,"text":"","control":true}],"end_ids":[]})", "t: key 'added': has no text"},
      })
    CHECK_ERROR(parse_token_facts(bad, kVocabulary, "t"), ErrorKind::malformed, cause);
}

TEST_CASE("a tokenizer is found under the names by which it is published") {
  const TempDir folder;
  const auto find = [&] { return find_tokenizer(folder.path(), false).path.filename().string(); };
  CHECK_ERROR(find(), ErrorKind::malformed,
              "tokenizer.model is missing, and neither tokenizer.json nor tekken.json is there");
  write(folder / "tiktoken.model", "IQ== 0\n");
  CHECK_ERROR(
      find(), ErrorKind::malformed,
      "tiktoken.model: is a tokenizer of tiktoken, which is not supported: a tokenizer.json of the same "
      "model goes beside the weights instead");
  write(folder / "tokenizer.model.v3", "3");
  CHECK(find() == "tokenizer.model.v3");
  write(folder / "tokenizer.model.v1", "1");
  CHECK_ERROR(
      find(), ErrorKind::malformed,
      "tokenizer.model is missing, and 'tokenizer.model.v1' and 'tokenizer.model.v3' are both there: copy "
      "the one of this model to tokenizer.model");
  write(folder / "tokenizer.model", "0");
  CHECK(find() == "tokenizer.model");
}

TEST_CASE("of several tokenizers the one that the model's authors made is taken") {
  const TempDir folder;
  const auto find = [&](bool native) { return find_tokenizer(folder.path(), native); };
  write(folder / "tokenizer.json", "{}");
  CHECK(find(false).kind == TokenizerKind::hugging_face);
  CHECK(find(true).kind == TokenizerKind::hugging_face);
  write(folder / "tekken.json", "{}");
  CHECK(find(false).kind == TokenizerKind::hugging_face);
  CHECK(find(true).kind == TokenizerKind::tekken);
  write(folder / "tokenizer.model", "0");
  CHECK(find(false).kind == TokenizerKind::sentencepiece);
  CHECK(find(true).kind == TokenizerKind::tekken);
  fs::remove(folder / "tekken.json");
  CHECK(find(true).kind == TokenizerKind::sentencepiece);
}

TEST_CASE("other files in the place of a tokenizer in JSON are named") {
  const TempDir folder;
  struct Row {
    std::string text;
    const char* cause;
  };
  for (const auto& [text, cause] : {
           Row{"", "is empty, expected a tokenizer in JSON"},
           Row{std::string(9, '\0'), "holds 9 zero bytes, as an unfinished download does"},
           Row{"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the tokenizer"},
           Row{"<!doctype html>", "is a web page, not a tokenizer"},
           Row{"Entry not found", "is no JSON object, expected a tokenizer in JSON"},
       }) {
    const TokenizerFile file{TokenizerKind::hugging_face, folder / "tokenizer.json"};
    write(file.path, text);
    CHECK_ERROR(read_tokenizer_file(file), ErrorKind::malformed, file.path.string() + ": " + cause);
  }
  CHECK_ERROR(refuse_other_files(base::as_bytes("{}"), TokenizerKind::sentencepiece, "t"),
              ErrorKind::malformed, "t: is a JSON file, expected a SentencePiece model");
  refuse_other_files(base::as_bytes("\n {}"), TokenizerKind::tekken, "t");
}

TEST_CASE("the end ids of a tokenizer in JSON need no list of pieces") {
  const TempDir folder;
  CHECK(read_end_ids(folder.path(), kVocabulary).empty());
  write(folder / "config.json", R"({"eos_token_id": 3})");
  write(folder / "generation_config.json", R"({"eos_token_id": [4, 3]})");
  write(folder / "tokenizer_config.json", R"({"added_tokens_decoder": {"5": {"content": "<tool>"}}})");
  CHECK(read_end_ids(folder.path(), kVocabulary) == TokenFacts{{}, {4, 3}});
  write(folder / "config.json", R"({"text_config": {"eos_token_id": 7}})");
  CHECK(read_end_ids(folder.path(), kVocabulary).end_ids == std::vector<std::int32_t>{4, 3, 7});
  write(folder / "config.json", R"({"text_config": {"eos_token_id": 12}})");
  CHECK_ERROR(read_end_ids(folder.path(), kVocabulary), ErrorKind::malformed,
              "key 'eos_token_id': is token 12, but the model has a vocabulary of 12");
}

TEST_CASE("a model's cache folder stands for its snapshot") {
  const TempDir folder;
  const fs::path model = folder / "models--org--name";
  CHECK(resolve_cache_folder(model) == model);  // no cache
  fs::create_directories(model / "snapshots");
  CHECK_ERROR(resolve_cache_folder(model), ErrorKind::usage, "holds 0 snapshots and no refs/main");
  fs::create_directories(model / "snapshots" / "aaa");
  CHECK(resolve_cache_folder(model) == model / "snapshots" / "aaa");
  CHECK(resolve_cache_folder(model / "") == model / "snapshots" / "aaa");
  fs::create_directories(model / "snapshots" / "bbb");
  CHECK_ERROR(resolve_cache_folder(model), ErrorKind::usage, "holds 2 snapshots");
  for (const char* bad : {"../aaa", "..", "", "ccc"}) {
    write(model / "refs" / "main", bad);
    CHECK_ERROR(resolve_cache_folder(model), ErrorKind::usage, "holds 2 snapshots");
  }
  write(model / "refs" / "main", "bbb\n");
  CHECK(resolve_cache_folder(model) == model / "snapshots" / "bbb");
  CHECK(cached_model_name(model / "snapshots" / "bbb" / "") == "name");
  CHECK(cached_model_name(folder.path()).empty());
}

TEST_CASE("only links to the blobs of the same model are files of a snapshot") {
  const TempDir folder;
  const fs::path model = folder / "models--org--name";
  const fs::path snapshot = model / "snapshots" / "aaa";
  fs::create_directories(snapshot);
  CHECK_FALSE(find_cache_blobs(snapshot));
  write(model / "blobs" / "b1", "blob");
  fs::create_directories(model / "blobs" / "sub");
  write(folder / "models--org--other" / "blobs" / "b2", "foreign");
  write(folder / "outside", "outside");
  const auto blobs = find_cache_blobs(snapshot);
  REQUIRE(blobs);
  CHECK_FALSE(find_cache_blobs(model));
  CHECK_FALSE(find_cache_blobs(folder.path()));
  const auto leads = [&](const char* target) {
    fs::remove(snapshot / "link");
    fs::create_symlink(target, snapshot / "link");
    return leads_into(snapshot / "link", *blobs);
  };
  CHECK(leads("../../blobs/b1"));
  CHECK_FALSE(leads("../../../models--org--other/blobs/b2"));
  CHECK_FALSE(leads("../../../outside"));
  CHECK_FALSE(leads("/etc/passwd"));
  CHECK_FALSE(leads("../../blobs/absent"));
  CHECK_FALSE(leads("../../blobs/sub"));
  // A blob that is a link itself leads to where that link leads.
  fs::create_symlink(folder / "outside", model / "blobs" / "b3");
  CHECK_FALSE(leads("../../blobs/b3"));
}

}  // namespace
}  // namespace sluice::format
