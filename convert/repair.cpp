// Repairs a container in place, out of the release that it was made of.
//
// The new bytes are made in a spare file next to the container and verified there: the tensors that the
// damage touches are converted again by the conversion's own pipeline, each to the offset that it has in the
// container, and its digest must be the one in the directory. Only then the container is opened for writing,
// and Patcher writes the bytes that differ. So a release that gives other bytes changes nothing, and a repair
// that is killed can run again. When the directory is damaged but the footer is sound, the whole release is
// converted with the types that can still be read in the directory, and must give a directory with the digest
// in the footer.
//
// The caller's thread runs this file; TensorPipeline has the workers.

#include <algorithm>
#include <optional>
#include <utility>

#include "base/byte_range.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "convert/convert.h"
#include "convert/plan.h"
#include "convert/tensor_pipeline.h"
#include "convert/tensor_sink.h"
#include "format/container_check.h"
#include "format/container_writer.h"
#include "format/hub/sections.h"

namespace sluice::convert {
namespace {

namespace fs = std::filesystem;
using base::ByteRange;
using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kStepBytes = 1u << 20;
constexpr std::uint64_t kBlockBytes = 16384;  // one write replaces all differences within a block

/// The name of a whole second container next to the damaged one, removed when the repair ends for any reason.
class SpareFile {
 public:
  explicit SpareFile(const fs::path& container)
      : path_(container.parent_path() / ("." + container.filename().string() + ".repair")) {}
  ~SpareFile() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  SpareFile(const SpareFile&) = delete;
  SpareFile& operator=(const SpareFile&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Writes tensors into the spare file, at the offsets that they have in the container, and verifies them.
class SpareFileSink final : public TensorSink {
 public:
  SpareFileSink(base::File& file, const format::ContainerReader& container)
      : file_(file), container_(container) {}

  void begin_tensor(const format::ModelTensor& tensor, format::Storage storage, format::DType source_dtype,
                    std::uint64_t) override {
    // A difference in type or shape is found before any byte of the tensor is converted.
    tensor_ = container_.find(tensor.name);
    if (tensor_ == nullptr || tensor_->shape != tensor.shape || tensor_->storage != storage ||
        tensor_->source_dtype != source_dtype)
      refuse(tensor.name);
    at_bytes_ = tensor_->offset_bytes;
  }
  void write(base::Bytes bytes) override {
    file_.write_at(at_bytes_, bytes);
    at_bytes_ += bytes.size();
  }
  // The queue is not needed: there is no chain over the whole file to interleave leaves with.
  void hash(base::Bytes bytes, base::LeafQueue&) override { hasher_.update(bytes); }
  void end_tensor(const base::Sha256& source_digest, const QuantError&) override {
    // Both digests must match: the source's shows that the release is the same, the tensor's that the bytes
    // are.
    if (base::merkle_root(hasher_.final()) != tensor_->digest || source_digest != tensor_->source_digest)
      refuse(tensor_->name);
  }

 private:
  [[noreturn]] void refuse(const std::string& name) const {
    const bool calibrated = container_.recipe().find("calibration") != nullptr;
    throw Error(
        ErrorKind::verification,
        container_.path().string() + ": tensor '" + name + "': " +
            (calibrated ? "was rounded with a calibration text, which a repair does not have: convert again "
                          "with --calibrate"
                        : "the release does not give what the container had"));
  }

  base::File& file_;
  const format::ContainerReader& container_;
  const format::ContainerTensor* tensor_ = nullptr;
  std::uint64_t at_bytes_ = 0;
  base::LeafHasher hasher_;
};

/// Writes into the container the bytes that differ from the wanted ones.
class Patcher {
 public:
  explicit Patcher(const fs::path& container) : target_(base::File::open_update(container)) {}

  void apply(std::uint64_t offset_bytes, base::Bytes wanted) {
    std::vector<std::byte> found(wanted.size());
    target_.read_exact_at(offset_bytes, found);
    for (std::size_t at = 0; at < wanted.size(); at += kBlockBytes) {
      const std::size_t length = std::min<std::size_t>(kBlockBytes, wanted.size() - at);
      const auto differs =
          base::find_difference(wanted.subspan(at, length), base::Bytes(found).subspan(at, length));
      if (differs.length_bytes == 0) continue;
      const base::Bytes bytes = wanted.subspan(at + differs.offset_bytes, differs.length_bytes);
      target_.write_at(offset_bytes + at + differs.offset_bytes, bytes);
      written_bytes_ += bytes.size();
    }
  }

  void apply(const base::File& from, const ByteRange& range) {
    std::vector<std::byte> bytes;
    for (std::uint64_t done = 0; done < range.length_bytes; done += bytes.size()) {
      bytes.resize(std::min(kStepBytes, range.length_bytes - done));
      from.read_exact_at(range.offset_bytes + done, bytes);
      apply(range.offset_bytes + done, bytes);
    }
  }

  /// Durable on return.
  [[nodiscard]] std::uint64_t finish() {
    target_.sync();
    return written_bytes_;
  }

 private:
  base::File target_;
  std::uint64_t written_bytes_ = 0;
};

/// Repairs a container whose directory is sound, and so says what belongs where.
class ContainerRepairer {
 public:
  ContainerRepairer(const RepairRequest& request, const format::ContainerReader& container,
                    base::Progress& progress, const std::stop_token& stop)
      : request_(request), container_(container), progress_(progress), stop_(stop) {}

  /// Makes and verifies all new bytes first, then writes them.
  RepairResult run() {
    RepairResult result;
    std::vector<const format::ContainerTensor*> tensors;
    for (const auto& tensor : container_.tensors())
      if (is_damaged({tensor.offset_bytes, tensor.length_bytes})) tensors.push_back(&tensor);
    std::vector<const format::ContainerSection*> sections;
    for (const auto& section : container_.sections())
      if (is_damaged({section.offset_bytes, section.length_bytes})) sections.push_back(&section);

    std::optional<base::AtomicFile> made;  // never committed, so it is removed in the end
    std::optional<Plan> plan;
    if (!tensors.empty() || !sections.empty()) {
      plan = Plan::make(request_.conversion.input, types());
      made.emplace(request_.container);
      convert(*plan, tensors, made->file());
      for (const auto* section : sections) verify(*plan, *section);
    }
    // From here on the container is written. apply() writes only bytes that differ, so header and footer need
    // no check of their own.
    Patcher patcher(request_.container);
    patcher.apply(0, format::encode_header(container_.footer().version));
    for (const auto* tensor : tensors)
      patcher.apply(made->file(), {tensor->offset_bytes, tensor->length_bytes});
    for (const auto* section : sections)
      patcher.apply(section->offset_bytes, base::as_bytes(content_of(*plan, *section)));
    clear_padding(patcher);
    patcher.apply(container_.footer().file_bytes - format::kContainerFooterBytes,
                  format::encode_footer(container_.footer()));
    result.tensors = tensors.size();
    result.written_bytes = patcher.finish();
    return result;
  }

 private:
  /// True when any damaged range overlaps `part`.
  [[nodiscard]] bool is_damaged(const ByteRange& part) const { return base::overlaps(request_.damage, part); }

  /// The types that the recipe names, which may not be those that --quant stands for today.
  [[nodiscard]] MatrixTypes types() const {
    const std::string subject = request_.container.string();
    const auto type = [&](std::string_view key) {
      const std::string& name = container_.recipe().at(key, subject).as_string(subject);
      if (const auto quant = parse_quant(name)) return *quant;
      base::throw_malformed(subject, "was made by a recipe '" + name + "' that is not known");
    };
    return {
        .experts = type("experts"), .attention = type("attention"), .head = type("head"), .tied_head = {}};
  }

  /// Converts the damaged tensors into the spare file.
  void convert(const Plan& plan, const std::vector<const format::ContainerTensor*>& tensors,
               base::File& made) {
    std::uint64_t total_bytes = 0;
    std::vector<TensorJob> jobs;
    for (const auto* tensor : tensors) {
      const auto found = std::ranges::find_if(
          plan.tensors, [&](const PlannedTensor& one) { return one.target.name == tensor->name; });
      if (found == plan.tensors.end())
        throw Error(ErrorKind::verification,
                    request_.conversion.input.string() + ": has no tensor '" + tensor->name + "'");
      jobs.push_back({&*found, &plan.files[found->source->file_index]});
      total_bytes += found->source->value_bytes();
    }
    progress_.begin("converting", total_bytes);
    SpareFileSink sink(made, container_);
    const Request& conversion = request_.conversion;
    TensorPipeline pipeline(sink,
                            TensorPipeline::block_size(conversion.memory_bytes, conversion.thread_count),
                            conversion.thread_count, progress_, stop_);
    pipeline.run(jobs);
  }

  /// Empty for a section that the release does not give.
  [[nodiscard]] static std::string content_of(const Plan& plan, const format::ContainerSection& section) {
    for (auto& released : format::released_sections(plan.release))
      if (released.name == section.name) return std::move(released.content);
    return {};
  }

  void verify(const Plan& plan, const format::ContainerSection& section) const {
    const std::string content = content_of(plan, section);
    if (content.size() == section.length_bytes &&
        base::hash<base::Sha256>(base::as_bytes(content)) == section.sha256)
      return;
    throw Error(ErrorKind::verification, request_.container.string() + ": section '" + section.name +
                                             "': the release does not give what the container had");
  }

  /// Writes zeros where damage touches the gaps between tensors and sections.
  void clear_padding(Patcher& patcher) const {
    std::vector<ByteRange> parts;
    for (const auto& tensor : container_.tensors())
      parts.push_back({tensor.offset_bytes, tensor.length_bytes});
    for (const auto& section : container_.sections())
      parts.push_back({section.offset_bytes, section.length_bytes});
    parts.push_back({container_.footer().directory_offset_bytes, 0});
    std::ranges::sort(parts, {}, &ByteRange::offset_bytes);
    std::uint64_t end_bytes = format::kContainerHeaderBytes;
    for (const ByteRange& part : parts) {
      const ByteRange gap{end_bytes, part.offset_bytes - end_bytes};
      if (gap.length_bytes > 0 && is_damaged(gap))
        patcher.apply(gap.offset_bytes, std::vector<std::byte>(gap.length_bytes));
      end_bytes = part.offset_bytes + part.length_bytes;
    }
  }

  const RepairRequest& request_;
  const format::ContainerReader& container_;
  base::Progress& progress_;
  const std::stop_token& stop_;
};

/// Searches the text of a damaged directory for a recipe's key with a known type.
std::optional<Quant> find_quant(std::string_view directory, std::string_view key) {
  const std::string start = '"' + std::string(key) + "\":\"";
  for (std::size_t at = directory.find(start); at != std::string_view::npos;
       at = directory.find(start, at + 1)) {
    const std::string_view rest = directory.substr(at + start.size());
    if (const auto quant = parse_quant(rest.substr(0, rest.find('"')))) return quant;
  }
  return std::nullopt;
}

/// Sets the types that the container was made with, from what can still be read in its directory. A wrong
/// guess does no harm: the directory made with it would not have the digest in the footer.
void restore_recipe(Request& conversion, const RepairRequest& request, const base::File& file,
                    const format::ContainerFooter& footer) {
  std::vector<std::byte> bytes(footer.directory_length_bytes);
  file.read_exact_at(footer.directory_offset_bytes, bytes);
  const std::string_view directory = base::as_text(bytes);
  const auto quant = find_quant(directory, "quant");
  const auto experts = find_quant(directory, "experts");
  const auto attention = find_quant(directory, "attention");
  const auto head = find_quant(directory, "head");
  if (!quant || !experts || !attention || !head)
    throw Error(ErrorKind::verification,
                request.container.string() +
                    ": its directory is too damaged to say how it was made; convert the release again");
  conversion.quant = *quant;
  conversion.types =
      MatrixTypes{.experts = *experts, .attention = *attention, .head = *head, .tied_head = {}};
}

/// Repairs a container whose directory is damaged: the footer says what the directory must hash to.
RepairResult repair_directory(const RepairRequest& request, base::Progress& progress,
                              const std::stop_token& stop) {
  const base::File file = base::File::open_read(request.container);
  const std::uint64_t file_bytes = file.size_bytes();
  std::vector<std::byte> end(format::kContainerFooterBytes);
  file.read_exact_at(file_bytes - end.size(), end);
  const auto footer = format::decode_footer(end, request.container.string());
  if (footer.version != format::kContainerVersion) {
    throw Error(ErrorKind::verification, request.container.string() +
                                             ": its directory is damaged, and the "
                                             "file is of container version " +
                                             std::to_string(footer.version) +
                                             ", which is not written any longer; convert the release again");
  }
  // The whole release is converted, since a damaged directory does not say where which tensor lies.
  const SpareFile spare(request.container);
  Request conversion = request.conversion;
  conversion.output = spare.path();
  restore_recipe(conversion, request, file, footer);
  static_cast<void>(convert(conversion, progress, stop));
  const auto made = format::ContainerReader::open(spare.path());
  if (made.footer().directory_sha256 != footer.directory_sha256 || made.footer().file_bytes != file_bytes)
    throw Error(ErrorKind::verification, request.container.string() +
                                             ": its directory is damaged, and converting the release again "
                                             "gives another one");
  Patcher patcher(request.container);
  patcher.apply(base::File::open_read(spare.path()), {0, file_bytes});
  return {made.tensors().size(), patcher.finish()};
}

}  // namespace

RepairResult repair(const RepairRequest& request, base::Progress& progress, const std::stop_token& stop) {
  const auto examined = format::check_container(request.container);
  if (examined.reader) return ContainerRepairer(request, *examined.reader, progress, stop).run();
  return repair_directory(request, progress, stop);
}

}  // namespace sluice::convert
