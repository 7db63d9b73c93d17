"""What `import deadrelu` offers."""
