#include "verify/verify.h"

#include <doctest/doctest.h>

#include <map>

#include "base/file.h"
#include "base/hasher.h"
#include "format/container_writer.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using format::Json;
using verify::ChainLink;
using verify::LinkState;

namespace {

/// A container whose weights are zeros and whose provenance is this text.
std::filesystem::path write_container(const std::filesystem::path& path, const std::string& provenance,
                                      const std::map<std::string, std::string>& sections = {}) {
  const auto description = format::describe(tests::tiny_params());
  format::ContainerWriter writer(path, description);
  for (const auto& [name, text] : sections) writer.add_section(name, base::as_bytes(text));
  for (const format::ModelTensor& tensor : format::model_tensors(description)) {
    const auto storage = tests::storage_of(tensor, format::Storage::q8_tiles);
    writer.begin_tensor(tensor, storage, format::DType::bf16, 0);
    writer.append(
        std::vector<std::byte>(static_cast<std::size_t>(format::storage_bytes(storage, tensor.shape))));
    writer.end_tensor({});
  }
  writer.set_provenance(format::parse_json(provenance, "test"));
  static_cast<void>(writer.finish());
  return path;
}

std::map<std::string, ChainLink> check(const std::filesystem::path& container,
                                       const verify::ChainInputs& inputs) {
  base::NoProgress progress;
  std::map<std::string, ChainLink> links;
  const auto reader = format::ContainerReader::open(container);
  for (const auto& link : verify::check_chain(reader, inputs, {}, progress, {})) links[link.link] = link;
  return links;
}

}  // namespace

TEST_CASE("a malformed provenance compares nothing and reads no file outside the release") {
  const tests::TempDir dir;
  std::filesystem::create_directory(dir / "release");
  base::write_file(dir / "secret", base::as_bytes("secret"));
  const std::string sha256 = base::to_hex(base::hash<base::Sha256>(base::as_bytes("secret")));
  for (const std::string& provenance :
       {std::string("{}"), std::string(R"({"release":5,"infohash_v1":[],"files":{}})"),
        std::string(
            R"({"files":[1,"x",{"path":7},{"path":""},{"path":"a","bytes":-1},{"path":"b","bytes":"c"}]})"),
        R"({"files":[{"path":"../secret","sha256":")" + sha256 + R"("}]})",
        R"({"files":[{"path":"/etc/passwd","sha256":")" + sha256 + R"("}]})"}) {
    CAPTURE(provenance);
    const auto path = write_container(dir / "m.sluice", provenance);
    verify::ChainInputs inputs;
    inputs.folder = dir / "release";
    for (const auto& [name, link] : check(path, inputs)) {
      CAPTURE(name);
      CHECK(link.state == LinkState::unknown);
      CHECK_FALSE(link.detail.empty());
    }
  }
}

TEST_CASE("a root is verified only by a pin that names it") {
  const tests::TempDir dir;
  const auto path = write_container(dir / "m.sluice", "{}");
  verify::ChainInputs inputs;
  CHECK(check(path, inputs).at("root").state == LinkState::unknown);
  inputs.pins = {{base::Sha256{}, "other.manifest.json"}};
  CHECK(check(path, inputs).at("root").state == LinkState::unknown);
  CHECK(
      check(path, inputs).at("root").detail.ends_with("other.manifest.json names other roots, not this one"));
  inputs.pins.push_back({format::ContainerReader::open(path).root(), "m.manifest.json"});
  CHECK(check(path, inputs).at("root").state == LinkState::checked);
  CHECK(check(path, inputs).at("root").detail.ends_with(": named by m.manifest.json"));
}

TEST_CASE("the tokenizer is compared with all files of its name that are known") {
  const tests::TempDir dir;
  std::filesystem::create_directory(dir / "release");
  base::write_file(dir / "release/tokenizer.model.v3", base::as_bytes("pieces"));
  const auto sha256_of = [](std::string_view text) { return base::hash<base::Sha256>(base::as_bytes(text)); };
  const auto state = [&](const std::string& path, std::string_view recorded,
                         const verify::ChainInputs& inputs) {
    const auto container = write_container(
        dir / "m.sluice",
        R"({"files":[{"path":")" + path + R"(","sha256":")" + base::to_hex(sha256_of(recorded)) + R"("}]})",
        {{"tokenizer", "pieces"}});
    return check(container, inputs).at("tokenizer").state;
  };
  // What the container records is its own word, until the files are compared with it.
  verify::ChainInputs inputs;
  CHECK(state("tokenizer.model.v3", "pieces", inputs) == LinkState::unknown);
  CHECK(state("a/tokenizer.model", "others", inputs) == LinkState::differs);
  CHECK(state("README.md", "others", inputs) == LinkState::unknown);
  CHECK(state("m.gguf", "others", inputs) == LinkState::unknown);
  inputs.folder = dir / "release";
  CHECK(state("tokenizer.model.v3", "pieces", inputs) == LinkState::checked);
  CHECK(state("tokenizer.model", "pieces", inputs) == LinkState::unknown);  // this file is missing
  inputs = {};
  auto& manifest = inputs.release.manifest.emplace();
  manifest.files.push_back({"tokenizer.model", {}, {}, sha256_of("others"), {}});
  CHECK(state("README.md", "others", inputs) == LinkState::differs);
  manifest.files.push_back({"tokenizer.model.v3", {}, {}, sha256_of("pieces"), {}});
  CHECK(state("README.md", "others", inputs) == LinkState::checked);
}

TEST_CASE("each link is compared when the release is available") {
  const tests::TempDir dir;
  std::filesystem::create_directory(dir / "release");
  base::write_file(dir / "release/readme", base::as_bytes("text"));
  const auto digest = base::hash<base::Sha256>(base::as_bytes("text"));
  const std::string sha256 = base::to_hex(digest);
  const std::string v1(40, 'a');
  const auto path = write_container(
      dir / "m.sluice", R"({"release":"r","infohash_v1":")" + v1 +
                            R"(","files":[{"path":"readme","bytes":4,"sha256":")" + sha256 + R"("}]})");
  verify::ChainInputs inputs;
  inputs.folder = dir / "release";
  inputs.source = "r.manifest.json";
  auto& manifest = inputs.release.manifest.emplace();
  manifest.infohash_v1 = base::parse_digest<base::Sha1>(v1);
  manifest.files.push_back({"readme", 4, {}, digest, {}});
  auto links = check(path, inputs);
  CHECK(links.at("release").state == LinkState::checked);
  CHECK(links.at("files").state == LinkState::checked);
  CHECK(links.at("file content").state == LinkState::checked);
  CHECK(links.at("tensors").state == LinkState::unknown);  // no checkpoint in it

  manifest.infohash_v1 = base::parse_digest<base::Sha1>(std::string(40, 'b'));
  manifest.files[0].sha256 = base::Sha256{};
  base::write_file(dir / "release/readme", base::as_bytes("test"));
  links = check(path, inputs);
  for (const char* link : {"release", "files", "file content"}) {
    CAPTURE(std::string(link));
    CHECK(links.at(link).state == LinkState::differs);
  }
  manifest.files.clear();
  CHECK(check(path, inputs).at("files").state == LinkState::unknown);
}

TEST_CASE("template, end ids and sampling are compared with what the release gives") {
  const tests::TempDir dir;
  std::filesystem::create_directory(dir / "release");
  tests::write_tiny_release(dir / "release", tests::tiny_params(), 1);
  const auto write = [&](const char* name, std::string_view text) {
    base::write_file(dir / "release" / name, base::as_bytes(text));
  };
  verify::ChainInputs inputs;
  const auto links = [&](const std::map<std::string, std::string>& sections) {
    return check(write_container(dir / "m.sluice", "{}", sections), inputs);
  };
  CHECK_FALSE(links({}).contains("chat files"));
  const std::map<std::string, std::string> one{{"chat_template.jinja", "t"}};
  CHECK(links(one).at("chat files").detail == "the files of the release are not at hand");
  inputs.folder = dir / "release";
  CHECK_FALSE(links({}).contains("chat files"));
  CHECK(links(one).at("chat files").state == LinkState::differs);
  write("chat_template.jinja", "t");
  CHECK(links(one).at("chat files").state == LinkState::checked);
  CHECK(links({}).at("chat files").state == LinkState::unknown);
  write("generation_config.json", R"({"eos_token_id":[2,5]})");
  const auto lacking = links(one).at("chat files");
  CHECK(lacking.state == LinkState::unknown);
  CHECK(lacking.detail ==
        "the container lacks generation_config.json, which " + inputs.folder.string() + " has");
  std::map<std::string, std::string> all = one;
  all["generation_config.json"] = R"({"eos_token_id":[2,5]})";
  all["tokens.json"] = R"({"added":[],"end_ids":[2,5]})";
  CHECK(links(all).at("chat files").state == LinkState::checked);
  all["tokens.json"] = R"({"added":[],"end_ids":[2]})";
  const auto forged = links(all).at("chat files");
  CHECK(forged.state == LinkState::differs);
  CHECK(forged.detail == "tokens.json is another one than in " + inputs.folder.string());
}
