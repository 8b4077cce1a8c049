# lightning.preset: what each preset sets, what wins over it, and what the view
# and the README say about it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Lightning;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('presets');
$node->init;
$node->append_conf('postgresql.conf', <<CONF);
shared_preload_libraries = 'lightning'
shared_buffers = 16MB
log_min_messages = warning
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION lightning');

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub restart_with
{
	my (@lines) = @_;
	open(my $f, '>', $node->data_dir . '/lightning.conf') or die $!;
	print $f "$_\n" for @lines;
	close $f;
	return $node->restart;
}
$node->append_conf('postgresql.conf', "include_if_exists 'lightning.conf'");

# ---- no preset ----
is(sql('SHOW lightning.preset'), 'balanced', 'balanced is the default');
is(sql("SELECT count(*) FROM lightning_settings WHERE source <> 'default'"), '0', 'everything is a default');
my %default = map { split /\|/, $_, 2 }
  split /\n/, sql("SELECT name, current_setting(name) FROM lightning_settings");
my %preset;
for (split /\n/, sql('SELECT preset, name, value FROM lightning_presets()'))
{
	my ($p, $name, $value) = split /\|/;
	$preset{$p}{$name} = $value;
}
is(join(' ', sort keys %preset), 'development low_memory max_durability read_optimized write_optimized',
	'every other preset sets something');
is(join(' ', grep { !exists $default{$_} } map { keys %$_ } values %preset), '', 'only settings that exist');

# ---- each preset is what SHOW shows ----
for my $p (sort keys %preset)
{
	restart_with("lightning.preset = $p");
	my %want = (%default, %{ $preset{$p} }, 'lightning.preset' => $p);
	my %got = map { split /\|/, $_, 2 }
	  split /\n/, sql("SELECT name, current_setting(name) FROM lightning_settings");
	is_deeply(\%got, \%want, "$p sets what it says");
	is(sql("SELECT string_agg(name, ' ' ORDER BY name COLLATE \"C\") FROM lightning_settings WHERE source = 'preset' AND preset = '$p'"),
		join(' ', sort keys %{ $preset{$p} }), "the view tells so");
	is(sql('CREATE TABLE t (a int) USING lightning; INSERT INTO t SELECT generate_series(1, 1000); SELECT lightning_flush(); SELECT count(*) FROM t; DROP TABLE t'),
		"\n1000", "the server works with $p");
}

# ---- what is set explicitly wins ----
restart_with('lightning.preset = low_memory', 'lightning.cache_size = 24MB', "lightning.wal_compression = 'none'");
is(sql('SHOW lightning.cache_size'), '24MB', 'a line in the file wins over the preset');
is(sql('SHOW lightning.memtable_size'), $preset{low_memory}{'lightning.memtable_size'}, 'the others keep its values');
is(sql("SELECT source, set_by, preset_value FROM lightning_settings WHERE name = 'lightning.cache_size'"),
	"explicit|configuration file|$preset{low_memory}{'lightning.cache_size'}", 'the view tells what the preset had');
is(sql("SELECT source FROM lightning_settings WHERE name = 'lightning.preset'"), 'explicit', 'the preset was set, too');
is(sql("SET lightning.wal_compression = 'lz4'; SELECT setting, source, set_by FROM lightning_settings WHERE name = 'lightning.wal_compression'"),
	'lz4|explicit|session', 'a session wins over all');

# ---- the cache's size follows shared_buffers ----
for my $case ([ 'balanced', '200MB', '200MB' ], [ 'balanced', '64MB', '128MB' ], [ 'read_optimized', '300MB', '600MB' ],
	[ 'read_optimized', '64MB', '512MB' ], [ 'max_durability', '160MB', '160MB' ], [ 'low_memory', '200MB', '16MB' ])
{
	my ($p, $buffers, $size) = @$case;
	for my $set ('', 'lightning.cache_size = -1')
	{
		restart_with("lightning.preset = $p", "shared_buffers = $buffers", $set);
		is(sql('SHOW lightning.cache_size'), $size, "$p with shared_buffers = $buffers" . ($set ? ', set to -1' : ''));
	}
}
is(sql("SELECT source, set_by, default_setting FROM lightning_settings WHERE name = 'lightning.cache_size'"),
	'explicit|configuration file|-1', 'the view knows that it was set');
# a reload, shown by another line's effect, finds nothing to change
open(my $c, '>>', $node->data_dir . '/lightning.conf') or die $!;
print $c "work_mem = 7MB\n";
close $c;
$node->reload;
wait_for_sql($node, "SELECT current_setting('work_mem')", '7MB');
is(sql("SELECT pending_restart FROM lightning_settings WHERE name = 'lightning.cache_size'"), 'f', '-1 is what it was');
restart_with('lightning.cache_size = 100kB');
is(sql('SHOW lightning.cache_size'), '128MB', 'too small a value is refused');
like(slurp_file($node->logfile), qr/It must be at least 1024 kB, or -1/, 'with a warning');

# ---- taken away again, the preset's value is back ----
restart_with('lightning.preset = write_optimized', "lightning.wal_compression = 'none'");
is(sql('SHOW lightning.wal_compression'), 'none', 'set in the file');
open(my $f, '>', $node->data_dir . '/lightning.conf') or die $!;
print $f "lightning.preset = write_optimized\n";
close $f;
$node->reload;
wait_for_sql($node, "SELECT current_setting('lightning.wal_compression') = 'lz4'", 't');
is(sql("SELECT current_setting('lightning.wal_compression'), source FROM lightning_settings WHERE name = 'lightning.wal_compression'"),
	'lz4|preset', 'a line that is removed leads back to the preset');
is(sql("SET lightning.wal_compression = 'none'; RESET lightning.wal_compression; SHOW lightning.wal_compression"),
	'lz4', 'so does RESET');

# ---- another preset needs a restart, and pg_settings says so ----
open($f, '>', $node->data_dir . '/lightning.conf') or die $!;
print $f "lightning.preset = development\n";
close $f;
$node->reload;
wait_for_sql($node, "SELECT pending_restart FROM lightning_settings WHERE name = 'lightning.preset'", 't');
is(sql('SHOW lightning.preset'), 'write_optimized', 'the preset changes at a restart only');

# ---- a name that does not exist ----
restart_with('lightning.preset = fastest');
is(sql('SHOW lightning.preset'), 'balanced', 'an unknown preset is ignored');
like(slurp_file($node->logfile), qr/invalid value for parameter "lightning.preset": "fastest"/, 'with a warning');

# ---- max_durability looks at the server's settings ----
restart_with('lightning.preset = max_durability', 'fsync = off');
like(slurp_file($node->logfile), qr/lightning.preset is "max_durability", but "fsync" is off/, 'unsafe settings are complained about');
restart_with('lightning.preset = max_durability', 'fsync = on', 'full_page_writes = on', 'synchronous_commit = off');
like(slurp_file($node->logfile), qr/but "synchronous_commit" is off/, 'all of them');

# ---- anybody may look ----
sql('CREATE ROLE nobody LOGIN');
is($node->safe_psql('postgres', 'SELECT count(*) > 5 FROM lightning_settings', extra_params => [ '-U', 'nobody' ]),
	't', 'the view is for everybody');
$node->stop;

# ---- the README's table ----
SKIP:
{
	my $readme = ($ENV{LIGHTNING_TREE} // "$FindBin::Bin/..") . '/README.md';
	skip 'no README.md here', 2 unless -r $readme;
	my (@columns, %seen);
	for my $line (split /\n/, slurp_file($readme))
	{
		my ($head, @cells) = map { s/^\s+|\s+$//gr } split /\|/, $line =~ s/^\|//r;
		if (!@columns)
		{
			@columns = @cells if ($head // '') eq 'Preset';
			next;
		}
		last if $line !~ /^\|/;
		next if $head =~ /^-+$/;
		my $name = $head =~ s/`//gr;
		for my $i (0 .. $#columns)
		{
			my $p = $columns[$i] =~ s/`//gr;
			$seen{"$p $name"} = $cells[$i] || ($p eq 'balanced' ? '' : $default{$name});
		}
	}
	my (%want, %names);
	$names{$_} = 1 for map { keys %$_ } values %preset;
	for my $name (keys %names)
	{
		$want{"$_ $name"} = $preset{$_}{$name} // $default{$name} for 'balanced', keys %preset;
	}
	ok(@columns > 0, 'README.md has a table of presets');
	is_deeply(\%seen, \%want, 'and it says what the presets do');
}
done_testing();
