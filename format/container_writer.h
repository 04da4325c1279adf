#pragma once
// Writes a container front to back in one pass, with all its digests. Given a path, the file appears under
// that name only when finish() has made it durable; given a file, that is the caller's business. Used by one
// thread.
//
//   ContainerWriter writer(path, params);
//   writer.add_section("tokenizer", bytes);
//   for (const ModelTensor& tensor : model_tensors(params)) {
//     writer.begin_tensor(tensor, storage, DType::bf16);
//     writer.append(bytes);  // any number of times, storage_bytes() in all; or write() and hash()
//     writer.end_tensor(source_digest);
//   }
//   const auto written = writer.finish();

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/file_stream.h"
#include "base/leaf_queue.h"
#include "base/merkle.h"
#include "base/paired_hasher.h"
#include "format/container_format.h"
#include "format/json.h"
#include "format/model_params.h"
#include "format/model_tensors.h"

namespace sluice::format {

struct WrittenContainer {
  std::uint64_t file_bytes = 0;
  base::Sha256 root;
  base::Sha256 file_sha256;
};

class ContainerWriter final {
 public:
  ContainerWriter(const std::filesystem::path& path, const ModelParams& params);
  /// Writes over what is in the file, which outlives the writer, from its beginning on.
  ContainerWriter(base::File& file, const ModelParams& params);

  void add_section(std::string_view name, base::Bytes bytes);

  /// `expert_bytes`: for the first matrix of an expert, the size of its whole run, which decides its
  /// alignment; see expert_run_bytes.
  void begin_tensor(const ModelTensor& tensor, Storage storage, DType source_dtype,
                    std::uint64_t expert_bytes = 0);
  void append(base::Bytes bytes);
  /// The two halves of append(): bytes of the current tensor, in order. Two threads may be in them at once.
  void write(base::Bytes bytes) { stream_.append(bytes); }
  void hash(base::Bytes bytes);
  /// hash() whose leaves go into `leaves`, to be hashed, by whomever, before end_tensor(). Takes some of them
  /// along, its own and others.
  void hash(base::Bytes bytes, base::LeafQueue& leaves);
  /// After the last write(), if at all: hands the tensor to the system, up to the page that the next one
  /// begins on.
  void finish_write();
  /// Instead of all of these: an earlier run has written the tensor into the file. False when the bytes there
  /// do not have the digest; the writer can then not be used any more.
  [[nodiscard]] bool adopt_tensor(const base::Sha256& digest, const base::Sha256& source_digest);
  /// Returns the tensor's digest.
  base::Sha256 end_tensor(const base::Sha256& source_digest);

  /// Facts about where the weights came from, and how they were made; shown by inspect.
  void set_provenance(Json provenance) { provenance_ = std::move(provenance); }
  void set_recipe(Json recipe) { recipe_ = std::move(recipe); }

  [[nodiscard]] WrittenContainer finish();

 private:
  void put(base::Bytes bytes);
  void pad_to(std::uint64_t alignment_bytes);
  void hash_zeros_to(std::uint64_t offset_bytes);
  base::Bytes hash_in_leaf(base::Bytes bytes);
  void end_leaf();
  [[nodiscard]] std::uint64_t offset_bytes() const { return stream_.offset_bytes(); }

  ModelParams params_;
  std::optional<base::AtomicFile> output_;  // where the caller gave a path
  base::File& file_;
  base::FileStream stream_;
  base::PairedHasher<base::Sha256> file_hasher_;
  std::uint64_t hashed_bytes_ = 0;  // fed into it so far
  base::PairedHasher<base::Sha256> leaf_hasher_;
  std::size_t leaf_bytes_ = 0;  // fed into it so far
  // Of the current tensor: all of them, for a queue holds on to their places, and how many have their bytes.
  std::vector<base::Sha256> leaves_;
  std::size_t leaf_count_ = 0;
  std::vector<ContainerTensor> tensors_;
  std::vector<ContainerSection> sections_;
  Json provenance_ = Json::object();
  Json recipe_ = Json::object();
};

/// Size of an expert's run when w1, w3, w2 are stored so, with the page alignment between them.
[[nodiscard]] std::uint64_t expert_run_bytes(const ModelParams& params, Storage storage);

}  // namespace sluice::format
